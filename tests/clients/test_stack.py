"""The operators' files: what each says of the others, and all of them at work: every service of compose.yaml as a process, with its own
files and settings (stack.py says what is changed), but for those who watch: test_seen.py runs Prometheus and Alertmanager."""

import configparser
import json
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import compose
import pytest
import yaml
from asking import Load, judge
from processes import PATIENCE_S, Provider, environment, wait_until
from stack import PORTS, VARIABLES, Stack

ONE, THREE = ["compose.yaml"], ["compose.yaml", "compose.scale.yaml"]
REPOSITORY = compose.REPOSITORY


def ini() -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "pgbouncer" / "pgbouncer.ini")
    return parser["pgbouncer"]


def instances(project: dict) -> dict[str, dict]:
    return {name: part for name, part in project["services"].items() if name.startswith("ish")}


@pytest.mark.parametrize("files", [ONE, THREE])
def test_the_files_agree(files: list[str]):
    project = compose.load(files, VARIABLES)
    services = project["services"]
    for name, part in services.items():
        assert compose.mounted(project, name) is not None, "each mounted file is there"
        built = REPOSITORY / part["build"] / "Dockerfile" if "build" in part else None
        assert built is None or built.is_file()
        assert set(part.get("depends_on", {})) <= set(services)
        assert set(part.get("secrets", [])) <= set(project["secrets"])
    # What nginx goes on to is where the instances are, and it is nginx whose word they take for the client's address.
    addresses = {part["networks"]["default"]["ipv4_address"] for part in instances(project).values()}
    upstream = compose.mounted(project, "nginx")["/etc/ish-nginx/upstream.conf"]
    assert set(re.findall(r"server ([\d.]+):8080 ", upstream)) == addresses
    nginx = services["nginx"]["networks"]["default"]["ipv4_address"]
    assert {part["environment"]["ISH_TRUSTED_PROXIES"] for part in instances(project).values()} == {nginx}
    watched = yaml.safe_load(compose.mounted(project, "prometheus")["/etc/prometheus/targets.yml"])
    assert {target for group in watched for target in group["targets"]} == {f"{address}:8080" for address in addresses}
    assert f"alertmanager:{PORTS['alertmanager']}" in compose.mounted(project, "prometheus")["/etc/prometheus/alertmanagers.yml"]
    assert f"http://prometheus:{PORTS['prometheus']}\n" in compose.mounted(project, "grafana")["/etc/grafana/provisioning/datasources/prometheus.yml"]
    assert f"listen {PORTS['nginx']};" in compose.mounted(project, "nginx")["/etc/ish-nginx/listen.conf"]
    assert services["nginx"]["ports"] == [f"127.0.0.1:8000:{PORTS['nginx']}"]
    assert len({part["environment"]["INSTANCE_ID"] for part in instances(project).values()}) == len(instances(project))
    for part in instances(project).values():
        assert f"@pgbouncer:{ini()['listen_port']}/ish_chat" in part["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("files", [ONE, THREE])
def test_the_sizes_fit_into_each_other(files: list[str]):
    project = compose.load(files, VARIABLES)
    pools = [int(part["environment"]["DB_MAX_CONNECTIONS"]) for part in instances(project).values()]
    # One instance's more: at a rolling restart the new one is there before the old one has gone.
    assert sum(pools) + max(pools) <= int(ini()["max_client_conn"])
    options = " ".join(project["services"]["postgres"]["command"])
    assert int(re.search(r"max_connections=(\d+)", options)[1]) >= int(ini()["max_db_connections"]) + 20
    if files == THREE:
        for name, part in project["services"].items():
            assert {"cpus", "memory"} <= set(part["deploy"]["resources"]["limits"]), name
        redis = project["services"]["redis"]["deploy"]["resources"]["limits"]["memory"]
        assert (redis, "maxmemory 2gb\n" in (REPOSITORY / "redis/redis.conf").read_text()) == ("3g", True)


def test_pgbouncers_numbers_are_those_that_were_asked_for():
    asked = {
        "pool_mode": "transaction",
        "max_client_conn": "200",
        "default_pool_size": "50",
        "min_pool_size": "10",
        "reserve_pool_size": "5",
        "reserve_pool_timeout": "5",
        "max_db_connections": "50",
        "max_user_connections": "50",
        "server_reset_query": "DISCARD ALL",
        "listen_port": "6432",
    }
    assert {name: ini()[name] for name in asked} == asked


def test_the_head_of_the_file_names_what_has_to_be_set():
    text = (REPOSITORY / "compose.yaml").read_text()
    named = re.search(r"for name in ([A-Z_ ]+); do", text)[1].split()
    assert set(named) == compose.needed_variables(text) | {"ADMIN_KEY"} == set(VARIABLES)


@pytest.mark.parametrize("files", [ONE, THREE])
def test_ish_knows_every_setting_that_it_is_given(ish_bin: Path, tmp_path: Path, files: list[str]):
    key = tmp_path / "admin.key"
    key.write_text("an admin key")
    known = subprocess.run([ish_bin, "config", "init"], check=True, capture_output=True, text=True).stdout
    names = {name for line in re.findall(r"\[([A-Z_, ]+)\]$", known, re.MULTILINE) for name in line.split(", ")}
    for part in instances(compose.load(files, VARIABLES)).values():
        given = part["environment"]
        assert set(given) <= names, "a setting that ish does not know"
        image = dict(re.findall(r"(ISH_\w+)=(\S+)", (REPOSITORY / "Dockerfile").read_text().split("ENV ", 1)[1].split("\n")[0]))
        env = environment(tmp_path, None) | image | given | {"ISH_ADMIN_KEY_FILE": str(key)}
        done = subprocess.run([ish_bin, "config", "check"], env=env, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "the configuration is valid\n"), done.stderr


def test_the_image_is_built_from_all_that_the_build_reads(tmp_path: Path):
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    context = {name for name in listed if is_let_in(name)}
    manifests = {"Cargo.toml", "Cargo.lock", "build.rs", "loadtest/Cargo.toml", "src/main.rs", "tests/it/main.rs"}
    assert manifests <= context and "README.md" not in context and not any(name.startswith("web/shots") for name in context)
    for name in context:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
    described = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert {package["name"] for package in json.loads(described.stdout)["packages"]} == {"ish", "ish-macros", "loadtest"}
    for name in context:
        if name.startswith("src/") and name.endswith(".rs"):
            # Tests, which read fixtures, stand last in a file or in files of their own, and are not built into the image.
            code = (tmp_path / name).read_text().split("#[cfg(test)]")[0]
            for read in re.findall(r'include_(?:str|bytes)!\("(\.\./[^"$]+|[^"$/]+)"\)', "" if "test" in name else code):
                assert ((tmp_path / name).parent / read).is_file(), f"{name} reads {read}"


def is_let_in(name: str) -> bool:
    """Whether .dockerignore leaves a file in; the last line that speaks of it decides."""
    kept = True
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        if pattern == "*" or name == pattern or name.startswith(f"{pattern}/"):
            kept = line.startswith("!")
    return kept


@pytest.fixture(scope="module")
def stack(ish_bin: Path, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(THREE, tmp_path_factory.mktemp("stack"), provider.base_url, ish_bin)
    try:
        yield stack.start()
    finally:
        stack.stop()


def chat(prompt: str) -> dict:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}]}


def test_the_stack_answers_through_nginx(stack: Stack, prompt: str):
    seen = {stack.ask("/api/status")[2]["instance"] for _ in range(12)}
    assert seen == {"ish-1", "ish-2", "ish-3"}
    told = stack.ask("/api/chat", {"message": prompt, "model": "mock"})
    assert told[0] == 200, told
    session = told[2]["session"]
    for name in stack.instances:
        status, _, messages = stack.ask(f"/api/sessions/{session}/messages", at=name)
        assert (status, messages["data"][0]["content"]) == (200, prompt), "a conversation is every instance's"


def test_every_instance_is_logged_in_at_redis_and_refused_nothing_there(stack: Stack, prompt: str):
    limited = stack.ask("/api/admin/keys", {"name": "limited", "requests_per_minute": 600, "tokens_per_minute": 1000000})
    for name in stack.instances:
        assert stack.ask("/v1/chat/completions", chat(f"{prompt} ({name})"), key=limited[2]["key"], at=name)[0] == 200
        assert stack.ask("/v1/chat/completions", chat(prompt), key=limited[2]["key"], at=name)[0] == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports[name]}/metrics", timeout=PATIENCE_S) as reply:
            metrics = reply.read().decode()
        assert "\nish_redis_up 1\n" in metrics
        done = re.findall(r'^ish_redis_commands_total\{(.*)\} (\d+)$', metrics, re.MULTILINE)
        assert any('outcome="ok"' in labels for labels, _ in done), metrics
        assert not [labels for labels, count in done if 'outcome="refused"' in labels and count != "0"]


def test_a_rolling_restart_fails_no_send(stack: Stack, provider: Provider):
    def stored(session: str) -> list[dict]:
        status, _, told = stack.ask(f"/api/sessions/{session}/messages", at=stack.instances[0])
        assert status == 200, told
        return told["data"]

    load = Load(f"http://127.0.0.1:{stack.ports['nginx']}", VARIABLES["ADMIN_KEY"], sockets=3, https=3)
    try:
        for name in stack.instances:
            asked = len(load.told.sent)
            wait_until(lambda: len(load.told.sent) > asked + 20, lambda: "the clients ask")
            assert stack.ish[name].ends(signal.SIGTERM) == 0
            stack.start_ish(name)
    finally:
        told = load.end()
    assert judge(told, provider, stored) == []
    assert told.counts["told_to_move"], "restarts that no socket met prove nothing"


def test_every_instance_knows_a_key_and_no_other(stack: Stack):
    made = stack.ask("/api/admin/keys", {"name": "another", "tenant": "acme"})
    assert made[0] == 201, made
    for name in stack.instances:
        assert stack.ask("/v1/models", key=made[2]["key"], at=name)[0] == 200
        assert stack.ask("/v1/models", key="ish_nobodys", at=name)[0] == 401


def test_pgbouncer_runs_with_the_files_numbers(stack: Stack):
    def asked(command: str) -> list[list[str]]:
        said = stack.sql("pgbouncer", "ish_stats", VARIABLES["STATS_PASSWORD"], "pgbouncer", command)
        return [line.split("|") for line in said.splitlines()]

    config = {row[0]: row[1] for row in asked("SHOW CONFIG")}
    numbers = ["pool_mode", "max_client_conn", "default_pool_size", "min_pool_size", "reserve_pool_size", "reserve_pool_timeout"]
    for name in [*numbers, "max_db_connections", "max_user_connections", "server_reset_query"]:
        assert config[name] == ini()[name], name
    pools = {(row[0], row[1]) for row in asked("SHOW POOLS")}
    assert ("ish_chat", "ish") in pools and ("ish_chat", "ish_owner") not in pools, "the owner goes around it"
    assert (stack.folder / "pgbouncer" / "pgbouncer.log").read_text(), "it keeps a log"
    refused = stack.sql("pgbouncer", "ish_stats", VARIABLES["STATS_PASSWORD"], "pgbouncer", "PAUSE ish_chat")
    assert "admin access needed" in refused


def test_postgres_lets_nobody_in_without_a_password_and_shows_a_login_nothing(stack: Stack):
    for service in ("postgres", "pgbouncer"):
        said = stack.sql(service, "ish", VARIABLES["APP_PASSWORD"], "ish_chat", "SELECT count(*) FROM keys")
        assert "permission denied" in said, said
        said = stack.sql(service, "ish", "not-the-password", "ish_chat", "SELECT 1")
        assert "authentication failed" in said, said
    seen = "BEGIN; SET LOCAL ROLE ish_system; SELECT count(*) > 0 FROM keys; COMMIT"
    assert "t" in stack.sql("pgbouncer", "ish", VARIABLES["APP_PASSWORD"], "ish_chat", seen).splitlines()
    extensions = stack.sql("postgres", "ish_owner", VARIABLES["OWNER_PASSWORD"], "ish_chat", "SELECT extname FROM pg_extension")
    assert "vector" in extensions.splitlines()


def test_each_containers_own_question_about_its_health_is_answered(stack: Stack):
    of_pgbouncer = re.search(r"HEALTHCHECK .*CMD (\[.*\])", (REPOSITORY / "pgbouncer" / "Dockerfile").read_text())[1]
    asks = {"pgbouncer": json.loads(of_pgbouncer), "postgres": [*stack.services["postgres"]["healthcheck"]["test"][1:], "-p", "5432"]}
    for service, words in asks.items():
        words = [str(stack.ports[service]) if word == str(PORTS[service]) else word for word in words]
        assert subprocess.run([stack.postgres_bin / words[0], *words[1:]]).returncode == 0, service
    for file, path, at in [("Dockerfile", "/livez", "ish"), ("compose.yaml", "/nginx/livez", "nginx")]:
        assert path in re.search(r"curl.*http://127\.0\.0\.1:\d+(/[/a-z]+)", (REPOSITORY / file).read_text())[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports[at]}{path}", timeout=PATIENCE_S) as reply:
            assert reply.status == 200
    assert "redis-cli --user ish ping" in stack.services["redis"]["healthcheck"]["test"][1]
    assert stack.redis("ping") == "PONG"


def test_redis_runs_with_the_files_settings(stack: Stack):
    lines = (REPOSITORY / "redis" / "redis.conf").read_text().splitlines()
    conf = dict(line.split(" ", 1) for line in lines if line[:1].isalpha())
    for changed_here in ("bind", "port", "aclfile"):
        del conf[changed_here]
    assert (conf["maxmemory"], conf["maxmemory-policy"], conf["appendonly"]) == ("2gb", "allkeys-lru", "no")
    for name, written in conf.items():
        _, *said = stack.redis("CONFIG", "GET", name, user="observer").split("\n")
        if name == "client-output-buffer-limit":
            assert said[0].endswith("pubsub 33554432 8388608 60")
        else:
            wanted = {"2gb": str(2 * 1024**3)}.get(written, written.strip('"'))
            assert "".join(said) == wanted, name


def test_redis_lets_ish_do_its_work_and_nothing_else(stack: Stack):
    assert stack.redis("SET", "ish:v1:of-this:test", "value", "EX", "60") == "OK"
    assert stack.redis("EVAL", "return redis.call('GET', KEYS[1])", "1", "ish:v1:of-this:test") == "value"
    assert stack.redis("XADD", "ish:v1:of-this:stream", "MAXLEN", "2", "*", "delta", "a").count("-") == 1
    assert stack.redis("PUBLISH", "ish:v1:of-this:channel", "a nudge") == "0"
    refused = [["SET", "another:key", "value"], ["PUBLISH", "another", "x"], ["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"]]
    for command in [*refused, ["SHUTDOWN"], ["ACL", "LIST"], ["REPLICAOF", "NO", "ONE"]]:
        assert stack.redis(*command).startswith("NOPERM"), command
    assert stack.redis("ping", password="another").startswith("NOAUTH")
    assert stack.redis("ping", user="default").startswith("NOAUTH")


def test_the_example_of_redis_users_is_what_compose_sets_up():
    example = (REPOSITORY / "redis" / "users.example.acl").read_text()
    assert example.replace("change-this-password", VARIABLES["REDIS_PASSWORD"]) == compose.mounted(
        compose.load(ONE, VARIABLES), "redis"
    )["/etc/redis/users.acl"]


def test_pgbouncer_takes_logins_as_postgres_keeps_them(stack: Stack):
    kept = stack.sql(
        "postgres",
        "postgres",
        VARIABLES["POSTGRES_PASSWORD"],
        "postgres",
        """SELECT format('"%s" "%s"', rolname, rolpassword) FROM pg_authid WHERE rolname IN ('ish', 'ish_owner') ORDER BY rolname""",
    )
    form = re.compile(r'"\w+" "SCRAM-SHA-256\$4096:[\w+/=]+\$[\w+/=]+:[\w+/=]+"')
    example = (REPOSITORY / "pgbouncer" / "userlist.example.txt").read_text()
    for line in [*kept.splitlines(), *example.splitlines()]:
        assert form.fullmatch(line), line
    stack.change_pgbouncers_users(kept)
    # Its first login there, so that PgBouncer must log in at Postgres too, with nothing but this.
    owner = "ish_owner", VARIABLES["OWNER_PASSWORD"], "ish_chat", "SELECT session_user"
    wait_until(lambda: stack.sql("pgbouncer", *owner) == "ish_owner", lambda: stack.sql("pgbouncer", *owner))
