-- A question and the end of its answer, each in one statement. What a function runs is planned once for a connection of the
-- server, which a statement without a name is each time; PgBouncer keeps such connections for many clients. They run as who calls
-- them, so that row-level security holds in them as outside.
--
-- Plans are kept while tables grow: one that was made when a table was small must not read it whole later. Every row is sought by an
-- index that fits any argument, so that the first plan is as good as one for each of the first five calls.

-- A question with its empty answer. A client's name for it that is known finds the turn that was begun; no row: there is no such
-- conversation. Who begins a turn holds its conversation until the commit.
CREATE FUNCTION ish_begin_turn(
    client text, talk uuid, follows text, follows_message uuid, new_talk uuid, new_title text, title_words text, new_model text,
    instructions text, instructions_id uuid, question text, question_words text, question_id uuid, answer_id uuid,
    answer_stream uuid, maker uuid, now_ms bigint)
RETURNS TABLE (its_conversation uuid, its_message uuid, its_reply uuid, its_stream uuid, is_duplicate boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    whose CONSTANT text := current_setting('ish.tenant');
    before uuid;
    is_unnamed boolean;
BEGIN
    IF client IS NOT NULL THEN
        RETURN QUERY SELECT reply.conversation, reply.parent, reply.id, reply.stream, true FROM messages AS named
            JOIN messages AS reply ON reply.role = 'assistant' AND reply.conversation = named.conversation
                AND (reply.id = named.id OR reply.parent = named.id)
            WHERE named.client_id = client ORDER BY reply.id LIMIT 1;
        IF FOUND THEN RETURN; END IF;
    END IF;
    IF talk IS NULL THEN
        talk := new_talk;
        INSERT INTO conversations (tenant, id, title, model, leaf, created_at, updated_at)
            VALUES (whose, talk, new_title, new_model, answer_id, now_ms, now_ms);
        INSERT INTO texts (tenant, conversation, words) VALUES (whose, talk, ish_words(whose, title_words));
    ELSE
        SELECT leaf, title = 'New chat' INTO before, is_unnamed FROM conversations WHERE id = talk FOR NO KEY UPDATE;
        IF NOT FOUND THEN RETURN; END IF;
        IF follows = 'message' THEN
            before := follows_message;
        ELSIF follows = 'start' THEN
            SELECT id INTO before FROM messages WHERE conversation = talk AND role = 'system' LIMIT 1;
        END IF;
        -- The first question of one that nobody has named gives it its title.
        IF before IS NULL AND is_unnamed THEN
            UPDATE conversations SET title = new_title WHERE id = talk;
            UPDATE texts SET words = ish_words(whose, title_words) WHERE conversation = talk AND message IS NULL;
        END IF;
        -- Selects the branch that the new answer ends.
        UPDATE conversations SET updated_at = now_ms, model = new_model, leaf = answer_id WHERE id = talk;
    END IF;
    IF instructions IS NOT NULL THEN
        INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at)
            VALUES (instructions_id, whose, talk, before, 'system', 'complete', instructions, now_ms);
        before := instructions_id;
    END IF;
    INSERT INTO messages (id, tenant, conversation, parent, role, state, content, model, client_id, stream, owner, created_at)
        VALUES (question_id, whose, talk, before, 'user', 'complete', question, NULL, client, NULL, NULL, now_ms),
            (answer_id, whose, talk, question_id, 'assistant', 'streaming', '', new_model, NULL, answer_stream, maker, now_ms);
    -- Instructions are no part of the talk, and an answer is found once it has ended.
    INSERT INTO texts (tenant, conversation, message, words)
        VALUES (whose, talk, question_id, ish_words(whose, question_words));
    RETURN QUERY SELECT talk, question_id, answer_id, answer_stream, false;
END $$;

-- The end of an answer, as long as it belongs to `maker`; false where it does not, or has ended. The conversation before its message:
-- so it is locked by all.
CREATE FUNCTION ish_finish(
    answer uuid, maker uuid, new_state text, new_content text, new_reasoning text, last_seq bigint, last_epoch bigint,
    why text, new_input_tokens bigint, new_output_tokens bigint, new_cache text, new_explanation text, new_error text,
    took_ms bigint, answer_words text, now_ms bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    whose CONSTANT text := current_setting('ish.tenant');
    talk uuid;
BEGIN
    UPDATE conversations SET updated_at = now_ms WHERE id = (SELECT conversation FROM messages WHERE id = answer);
    UPDATE messages SET state = new_state, content = new_content, reasoning = new_reasoning, seq = last_seq, epoch = last_epoch,
            finish_reason = why, input_tokens = new_input_tokens, output_tokens = new_output_tokens, cache = new_cache,
            explanation = new_explanation, error = new_error, elapsed_ms = took_ms
        WHERE id = answer AND state = 'streaming' AND owner = maker AND epoch <= last_epoch RETURNING conversation INTO talk;
    IF NOT FOUND THEN RETURN false; END IF;
    INSERT INTO texts (tenant, conversation, message, words) VALUES (whose, talk, answer, ish_words(whose, answer_words));
    RETURN true;
END $$;
