"""All settings, and what they mean. A setting is `group.name`; loading.py tells where they are read from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, IPvAnyNetwork, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

ENV_PREFIX: Final = "LOGSVC_"
FILE_VARIABLE: Final = "LOGSVC_CONFIG"
"""Environment variable that names the file."""

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[ByteSize, Field(ge=4 * KiB)]
ByPlan = dict[str, Annotated[float, Field(gt=0)]]
LabelName = Annotated[str, Field(pattern=r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]


class Group(BaseModel):
    """A TOML table of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Data(Group):
    """What is kept on this machine."""

    dir: Path = Path("data")
    """Folder of everything that the service keeps: the journal, the store, how far collection got, and the logs of a
    Procfile's processes. One process uses it at a time."""


class Http(Group):
    """The API."""

    host: str = "127.0.0.1"
    """Address to listen on. Without tokens (`auth.jwks`, `auth.tokens_file`) it must be one of loopback."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 takes a free one."""
    grace: Seconds = 5.0
    """Seconds that answers have to end when the service stops."""
    public_url: str = ""
    """How clients reach the service, as `https://logs.example.com`: what addresses of log sessions begin with. Empty
    for the address that each of them used, as its Host and this socket have it, which behind a proxy is another."""
    origins: list[str] = []
    """Sites whose pages may read answers in a browser (CORS), as `https://dashboard.example.com`."""
    forwarded: bool = False
    """Take a client's address from the last entry of X-Forwarded-For: only behind a proxy that writes it."""


class Auth(Group):
    """Tokens: who may read and write what. With neither `jwks` nor `tokens_file` nobody is asked for one."""

    jwks: str = ""
    """Key set that JWTs are signed with: an address (https), or a file."""
    jwks_seconds: Annotated[float, Field(ge=10, allow_inf_nan=False)] = 300.0
    """Seconds until the key set is fetched again; a token with an unknown key has it fetched at once."""
    audience: str = ""
    """What a JWT must name as `aud`. Needed with `jwks`."""
    issuer: str = ""
    """What a JWT must name as `iss`; empty for any."""
    leeway: Annotated[float, Field(ge=0, le=300)] = 3.0
    """Seconds that the issuer's clock may differ from this one. So long after its `exp` a token and its tails end, but
    no longer than 4 s."""
    tenant_claim: str = "tenant"
    """Claim of a JWT that names the tenant."""
    apps_claim: str = "apps"
    """Claim with the list of apps that the token is for; without it, it is for all of the tenant's."""
    scope_claim: str = "scope"
    """Claim with the scopes: `logs:read`, `logs:write`, `drains:write`, `logs:operate`."""
    plan_claim: str = "plan"
    """Claim with the plan, which says what the limits are."""
    tokens_file: str = ""
    """File of static tokens (TOML), by their hashes: see `logsvc token`. Read again when it changes."""
    revoked_file: str = ""
    """File of what was revoked, one a line: the `jti` of a JWT, the name of a static token. Read again when it
    changes."""
    failures: Count = 30
    """Tokens that one address may get wrong in a minute. Beyond that it is refused with 429, but for good ones that
    this process has seen before."""

    @property
    def on(self) -> bool:
        """Whether tokens are asked for."""
        return bool(self.jwks or self.tokens_file)


class Probe(Group):
    """Probes and metrics of a role on a port of their own."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` in a pod, where the kubelet and Prometheus come from outside. What is
    told there holds no lines and no names of apps."""
    port: Literal["off"] | Annotated[int, Field(ge=0, le=65535)] = "off"
    """Port for `/healthz`, `/readyz` and `/metrics`; 0 takes a free one and says which. Off, because roles that share
    a machine would get in each other's way."""


class Sessions(Group):
    """Log sessions: addresses that need no token."""

    keys: list[Annotated[SecretStr, Field(min_length=32)]] = []
    """Secrets that addresses are encrypted and signed with, the same in all processes: the first one signs, all are
    taken. Without any, a process makes one for itself, and takes only its own addresses, until it ends."""
    idle: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    """Seconds in which an address has to be opened. Who comes back with a place is let in until the session ends."""
    most: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    """Seconds after which a session ends in any case."""


class Limits(Group):
    """What a tenant may have in one process, by the plan of its tokens; without tokens there are no limits."""

    default: str = "standard"
    """Plan of tokens and namespaces that name none, or none of those in `tails`."""
    tails: dict[str, Annotated[int, Field(ge=0)]] = {"free": 5, "starter": 20, "standard": 100, "pro": 1000}
    """Tails at once; the next one is refused with 429."""
    answers: dict[str, Annotated[int, Field(ge=0)]] = {"free": 20, "starter": 50, "standard": 100, "pro": 400}
    """Reads of lines at once that are no tails; the next one is refused with 429."""
    query_seconds: ByPlan = {"free": 5.0, "starter": 10.0, "standard": 20.0, "pro": 20.0}
    """Seconds that one statement in the store may take."""
    read_bytes: dict[str, Count] = {"free": GiB, "starter": 4 * GiB, "standard": 16 * GiB, "pro": 64 * GiB}
    """Bytes that one statement in the store may read, uncompressed."""
    read_rows: dict[str, Count] = {"free": 1_000_000, "starter": 4_000_000, "standard": 16_000_000, "pro": 64_000_000}
    """Rows a second that statements in the store may read, each that they look at; a minute's worth may come at once.
    Who has read more is refused with 429 until it is made up for; an answer that has begun goes on at that pace."""
    reads: dict[str, Count] = {"free": 1, "starter": 2, "standard": 2, "pro": 8}
    """Statements at once in the store; further ones wait for their turn, and where a hundred wait, are refused with
    429. The embedded engine runs three at once, of all tenants."""
    push_bytes: dict[str, Count] = {"free": MiB // 4, "starter": MiB, "standard": 4 * MiB, "pro": 16 * MiB}
    """Bytes a second of pushed lines; ten seconds' worth may come at once."""
    posts: dict[str, Annotated[int, Field(ge=0)]] = {"free": 5, "starter": 10, "standard": 20, "pro": 80}
    """Posts of lines at once; the next one is refused with 429. Each may hold a line of 16 MiB until it is whole."""
    retention: dict[str, Annotated[int, Field(ge=0, le=7)]] = {}
    """Retention class of all lines of a tenant with the plan, collected or pushed (see `store.retention_days`); 0 for a
    plan that isn't here."""
    collect_bytes: dict[str, Count] = {}
    """Bytes a second that a collector takes of a tenant's pods, by the plan that their namespace's annotation names
    (`kubernetes.plan_annotation`). What is beyond waits in its file, and delays nobody else. A plan that isn't here has
    that of `default`, and none where that isn't here either."""
    collect_burst: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Seconds' worth of `collect_bytes` that may be taken at once."""
    drains: dict[str, Annotated[int, Field(ge=0)]] = {"free": 2, "starter": 6, "standard": 6, "pro": 20}
    """Drains that an app may have, whatever the process; the next one is refused with 422."""

    def plan_named(self, name: str) -> str:
        """The plan that holds for whoever has the one called so: the default where nobody has set it."""
        return name if name in self.tails else self.default

    def retention_of(self, plan: str) -> int:
        """Retention class of a plan's lines."""
        return self.retention.get(self.plan_named(plan), 0)


class Tail(Group):
    """Live reading."""

    heartbeat: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 15.0
    """Seconds of silence after which a tail is told where it is."""
    max_tails: Count = 20_000
    """Tails at once; the next one is refused with 503."""
    window_bytes: Size = ByteSize(64 * MiB)
    """Memory for the newest lines of all partitions that are watched. Who falls behind it reads the journal."""
    linger: Seconds = 10.0
    """Seconds for which a partition stays in memory after its last reader."""
    cold_lag: Seconds = 5.0
    """Where the store is more seconds behind than this, a new tail starts live and says so."""


class Drains(Group):
    """Drains: an app's lines forwarded to other places."""

    http: bool = False
    """Take drains that send lines and secrets unencrypted: `http://`, `otlp+http://`, `loki+http://`."""
    allow: list[IPvAnyNetwork] = []
    """Networks that drains may reach though they are not public, as `10.1.2.0/24`: for receivers of the platform's
    own. Without an entry here loopback, private, link-local and all other special networks are refused."""
    refuse: list[IPvAnyNetwork] = []
    """Public networks that drains may not reach: those of the cluster, where it has any. Goes before `allow`."""
    connect_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    """Seconds until a receiver that takes no connection counts as failing."""
    request_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    """Seconds that a receiver has to answer a frame, from when it is connected; then it counts as failing."""
    ca_file: str = ""
    """PEM file of authorities that sign receivers' certificates, besides those of the system."""
    batch_bytes: Size = ByteSize(100 * KiB)
    """About the most bytes in a frame, uncompressed; a single line may be larger."""
    batch_seconds: Seconds = 0.7
    """Seconds from one frame of a drain to the next, unless that one is full. After a longer silence a line goes at
    once."""
    pause_first: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Seconds from a failed try to the next; doubled at each further one, less up to a half by chance."""
    pause_most: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Most seconds from a failed try to the next, unless the receiver asks for more by `Retry-After`."""
    announce_seconds: Seconds = 900.0
    """Seconds from one line about a failing drain in its app's log to the next."""
    backlog_seconds: ByPlan = {"free": 21_600.0, "starter": 86_400.0, "standard": 172_800.0, "pro": 259_200.0}
    """Age, by plan, of the oldest line that a drain which was held up still delivers; what is older is skipped, with an
    exact count in the drain's own stream. A plan that isn't here has that of `limits.default`. An hour less than its
    lines are kept (`store.retention_days`) is the most."""
    backlog_lines: dict[str, Count] = {"free": 1_000_000, "starter": 10_000_000}
    """Lines, by plan, that a drain may be behind; as for `backlog_seconds`. No limit for a plan that isn't here."""


class Collect(Group):
    """Collection from log files."""

    rescan: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Seconds between two looks at everything, for what the kernel's watch did not tell."""
    max_deleted_bytes: Size = ByteSize(1 * GiB)
    """Most bytes of deleted files that are held on the disk until they are read out; beyond that the largest is given
    up, with a notice."""


class Kubernetes(Group):
    """Collection from the pods of Kubernetes, and what they are called."""

    source: Literal["files", "api", "rollouts"] = "files"
    """Where lines come from: the files on a node; or the API server, for all nodes, where no node can be read.
    `rollouts` is what there is to say of a cluster's Deployments and Jobs, without any log; `api` says that too."""
    node: str = ""
    """Name of the node, as pods have it in `spec.nodeName`, of whose pods `logsvc collect` collects the logs. Empty for
    those of a Procfile's processes."""
    pods: Path = Path("/var/log/pods")
    """Folder of the pods' logs."""
    url: str = ""
    """Address of the API server; empty for what a pod is told of it."""
    account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Folder of the service account: `token`, read with each request, and `ca.crt`, the API server's authority."""
    shards: Annotated[int, Field(ge=1, le=100)] = 1
    """Shares that the pods of a cluster are collected in, each by the one process that has its Lease (source `api`).
    The same for all of them: to change it, stop all first."""
    requests: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    """Logs a second that the API server is asked for at most (source `api`)."""
    patience: Seconds = 30.0
    """Seconds after which the lines of a pod that the API server doesn't know are filed under its namespace."""
    app_labels: list[LabelName] = ["app.kubernetes.io/name"]
    """Labels of a pod that name its app: the first one that it has. Without any, the app is called as the namespace."""
    process_labels: list[LabelName] = ["app.kubernetes.io/component"]
    """Labels that name the process type. Without any, the pod's owner does, a CronJob as `cron-<name>`."""
    dyno_labels: list[LabelName] = []
    """Labels that name the dyno. Without any, it is called as the pod."""
    exclude_annotation: LabelName = "logsvc/exclude"
    """Annotation of a pod with the names of containers whose lines are left out, with commas between them, or `*`."""
    plan_annotation: LabelName = "logsvc/plan"
    """Annotation of a namespace with its tenant's plan, which says what the retention class is (`limits.retention`)."""
    retention_annotation: LabelName = "logsvc/retention"
    """Annotation of a namespace with a retention class, which goes before the plan's."""
    operators: dict[str, str] = {"Cluster.postgresql.cnpg.io": "postgres"}
    """Process types of pods that an operator makes, by `<kind>.<group>` of what owns them."""


RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Redact(Group):
    """What is replaced in lines before they are kept: as long as no rule is named, nothing."""

    everywhere: list[RuleName] = []
    """Names of rules for all tenants: `token`, `email`, `card`, or one of `rules`."""
    tenants: dict[str, list[RuleName]] = {}
    """Names of rules by tenant, beside those of `everywhere`."""
    rules: dict[RuleName, Annotated[str, Field(min_length=1, max_length=1000)]] = {}
    """Patterns by name, as RE2 takes them; one called like a preset takes its place."""


class Bus(Group):
    """The journal that every line goes through."""

    partitions: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Partitions of the bus. Fixed once the data folder is in use: a line's cursor depends on it."""
    segment_bytes: Size = ByteSize(64 * MiB)
    """A new file is begun when one is this large. Space comes back by whole files."""
    max_bytes: Size = ByteSize(4 * GiB)
    """Most bytes on the disk. When the store is away until the journal is this large, collection stops until it is
    back, and posts of lines are refused."""
    recent_bytes: Size = ByteSize(16 * MiB)
    """Most bytes of the newest chunks kept in memory for those who read at the end."""
    sync_interval: Seconds = 1.0
    """Seconds until what was written is flushed to the disk: what a power loss may take. A crash takes nothing."""
    hold_back: Seconds = 10.0
    """Seconds for which a file stays though the store has all of it, for readers that are a little behind."""


class Kafka(Group):
    """The bus of several machines: topics of Apache Kafka."""

    bootstrap: Annotated[list[str], Field(min_length=1)] = ["localhost:9092"]
    """Brokers to ask first, as host:port."""
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,200}$")] = "logsvc"
    """Begins the names of the topics (`<prefix>.<epoch>` and `<prefix>.control`) and of the consumer group."""
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How brokers are spoken to: encrypted (`ssl`), with a name and password (`sasl`), or both."""
    ca_file: str = ""
    """PEM file of the authorities that sign the brokers' certificates; empty for those of the system."""
    cert_file: str = ""
    """PEM file of this client's certificate, where brokers ask for one."""
    key_file: str = ""
    """PEM file of the key of that certificate; empty where it is in the same file."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How name and password are proven."""
    username: str = ""
    """Name, for SASL."""
    password: SecretStr = SecretStr("")
    """Password, for SASL."""
    replication: Annotated[int, Field(ge=1, le=32767)] = 3
    """Brokers that hold each partition; `logsvc migrate` makes topics so."""
    min_insync: Count = 2
    """Brokers that must have a record before it counts as written."""
    retention_hours: Count = 72
    """Hours that records stay on the bus. The store must never be away for longer."""
    delivery_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Seconds until a record that no broker has acknowledged counts as failed, and a question as unanswered."""
    reads: Count = 4
    """Catch-up reads at once; the others wait their turn."""
    development: bool = False
    """Accept one broker: without replicas a lost disk loses lines."""


class ClickHouse(Group):
    """The store of several machines: a ClickHouse server, or several that hold the same."""

    urls: Annotated[list[str], Field(min_length=1)] = ["http://localhost:8123"]
    """HTTP addresses of servers that hold the same, as `http://host:8123` or `https://host:8443`. When one is away,
    the next one is asked."""
    user: str = "default"
    """Name of the user. See `logsvc check` for the rights that it needs."""
    password: SecretStr = SecretStr("")
    """Password of the user."""
    database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] = "logsvc"
    """Database of all tables."""
    cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.{}-]{0,99}$")] = ""
    """Name of the cluster whose servers replicate the tables; empty for one server. It can't be changed later."""
    ca_file: str = ""
    """PEM file of the authorities that sign the servers' certificates; empty for those of the system."""
    connect_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0
    """Seconds until a server that doesn't take a connection counts as away."""
    read_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """Seconds until a query that isn't answered is given up."""
    write_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds until an insert or a change of the schema that isn't answered is given up. Inserts are tried again."""
    inserts: Annotated[int, Field(ge=1, le=16)] = 2
    """Batches that a writer inserts at once; on a cluster always one."""
    compress: bool = True
    """Send inserts and ask for answers compressed (zstd): a tenth of the bytes, for a little CPU time."""


class Store(Group):
    """History: the engine of ClickHouse, in this process."""

    grace: Seconds = 10.0
    """Seconds that a stop of `logsvc store` waits for what it has fetched to be inserted and committed."""
    retention_days: Annotated[list[Annotated[int, Field(ge=1, le=3650)]], Field(min_length=1, max_length=8)] = [7]
    """Days that lines are kept, by retention class from 0 on; a class without a number is kept for ever."""


class Procfile(Group):
    """The runner of `logsvc dev --procfile`."""

    base_port: Annotated[int, Field(ge=1, le=65535)] = 5000
    """PORT of the first process type; the next one has 100 more."""
    grace: Seconds = 10.0
    """Seconds from SIGTERM to SIGKILL when a process is to stop."""
    backoff_first: Seconds = 1.0
    """Seconds from a crash to the first restart; doubled at each further crash."""
    backoff_most: Seconds = 60.0
    """Most seconds from a crash to a restart."""
    settled: Seconds = 60.0
    """A process that ran for so many seconds starts again at `backoff_first`."""
    rotate_bytes: Size = ByteSize(10 * MiB)
    """A log file is rotated when it is as large as that."""
    keep_rotated: Count = 4
    """Rotated files that are kept, of each restart."""
    keep_restarts: Count = 5
    """Restarts of which the logs are kept, the running one included."""


class Log(Group):
    """The service's own log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is written: this and what is worse."""
    format: Literal["text", "json"] = "text"
    """Lines for people or for machines."""


class Settings(BaseSettings):
    """Every setting, by group."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="_", env_nested_max_split=1, extra="forbid", frozen=True
    )

    data: Data = Data()
    http: Http = Http()
    probe: Probe = Probe()
    auth: Auth = Auth()
    sessions: Sessions = Sessions()
    limits: Limits = Limits()
    tail: Tail = Tail()
    drains: Drains = Drains()
    collect: Collect = Collect()
    redact: Redact = Redact()
    kubernetes: Kubernetes = Kubernetes()
    bus: Bus = Bus()
    kafka: Kafka = Kafka()
    clickhouse: ClickHouse = ClickHouse()
    store: Store = Store()
    procfile: Procfile = Procfile()
    log: Log = Log()


def variable(name: str) -> str:
    """The environment variable of a setting: `LOGSVC_HTTP_PORT` of `http.port`."""
    return ENV_PREFIX + name.replace(".", "_").upper()


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting: its name (`http.port`) and what is declared of it, in order."""
    for group_name, group in Settings.model_fields.items():
        declared = group.annotation
        assert isinstance(declared, type)
        assert issubclass(declared, Group)
        for name, field in declared.model_fields.items():
            yield f"{group_name}.{name}", field
