// Owns: the questions of the test, each set with words of its own, so that one case never answers another's question.

/** `base` is asked first; each `reworded` must hit it by meaning; `alike` is as near as many a paraphrase, and must miss. */
export const leaves = {
  base: 'Why do leaves change their colour in autumn?',
  reworded: ['What makes leaves change colour in autumn?', 'For what reason do leaves change their colour in autumn?'],
  alike: 'Why do leaves change their colour in spring?',
};

export const tides = {
  base: 'What causes the tides in the ocean?',
  reworded: 'What is the cause of ocean tides?',
};

/** Questions that only need to be new. */
export const fresh = {
  regenerated: 'Why does bread dough rise when yeast is added to it?',
  deleted: 'Describe how glaciers carve valleys through mountains.',
  lossy: 'Which factors decide the price of coffee beans?',
  meanwhile: 'How does a lighthouse lens concentrate a beam of light?',
  away: 'What makes the sky on Mars look red rather than blue?',
};

/** What `waiting` answers show before they wait, at least. */
export const SHOWN_LENGTH = 60;

/**
 * Questions for the obedient model: each answer waits after its first words until `provider.release()`, so that whatever a
 * case does in the middle of it happens in the middle of it, however slow the machine is.
 */
export const waiting = {
  grown: 'Why does metal feel colder than wood in the same room? [[hold=16]]',
  stopped: 'Explain how a violin string produces a musical tone. [[hold=16]]',
  reloaded: 'How do migrating birds find their way at night? [[hold=16]]',
  shared: 'How does a sailing boat move against the wind? [[hold=16]]',
  forgotten: 'What keeps a glider in the air without any engine? [[hold=16]]',
  left: 'What keeps a suspension bridge from swaying in wind? [[hold=16]]',
  killed: 'What makes volcanic soil good for growing grapes? [[hold=16]]',
  drained: 'How do noise cancelling headphones remove engine hum? [[hold=16]]',
  typed: 'How does a mechanical watch keep its pace? [[hold=16]]',
};
