-- Nobody logs in as these roles: each transaction takes one of them on (SET LOCAL ROLE), whoever the connection belongs to.
-- `ish_tenant` sees one tenant's rows, that of the setting `ish.tenant`; `ish_system` sees all of what its work needs. A login may
-- take them on as a member of `ish_login`, which hands nothing down by itself (NOINHERIT): before a role is taken on there is nothing
-- to see. Roles belong to the whole server: another database of it may have made them, or do so at this moment.
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['ish_tenant', 'ish_system', 'ish_login'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF role <> 'ish_login' THEN
            EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role);
        ELSIF NOT pg_has_role('ish_login', 'ish_tenant', 'MEMBER') OR NOT pg_has_role('ish_login', 'ish_system', 'MEMBER') THEN
            GRANT ish_tenant, ish_system TO ish_login;
        END IF;
    END LOOP;
END $$;

-- Every table is protected by this, from its owner too: who has taken on neither role sees nothing.
CREATE FUNCTION ish_protect(protected regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', protected);
    EXECUTE format('CREATE POLICY system ON %s TO ish_system USING (true)', protected);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO ish_system', protected);
END $$;

-- The same, and each tenant's own rows for `ish_tenant`; the table has a column `tenant`.
CREATE FUNCTION ish_protect_by_tenant(protected regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ish_protect(protected);
    EXECUTE format(
        'CREATE POLICY tenant ON %s TO ish_tenant USING (tenant = current_setting(''ish.tenant'', true))', protected);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO ish_tenant', protected);
END $$;
