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
export const fresh = [
  'Why does bread dough rise when yeast is added to it?',
  'Explain how a violin string produces a musical tone.',
  'Describe how glaciers carve valleys through mountains.',
  'Which factors decide the price of coffee beans?',
  'How do migrating birds find their way at night?',
  'What keeps a suspension bridge from swaying in wind?',
  'How does a lighthouse lens concentrate a beam of light?',
  'What makes volcanic soil good for growing grapes?',
  'How do noise cancelling headphones remove engine hum?',
  'What makes the sky on Mars look red rather than blue?',
  'How does a mechanical watch keep its pace?',
  'Why does metal feel colder than wood in the same room?',
  'How does a sailing boat move against the wind?',
];
