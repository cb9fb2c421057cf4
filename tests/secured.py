"""A Kafka with several doors: without a lock, with SASL and ACLs, with TLS, with TLS that shows another name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import trustme
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from karafka.devbroker import Kafka, ports
from tests.brokers import until

Settings = Mapping[str, object]

# Seconds that a start may take on a machine that is busy with other tests.
PATIENCE = 150.0

# Who comes by the door without a lock may do everything; the others what they are allowed.
SETTINGS: Mapping[str, str] = {
    "listener.security.protocol.map": (
        "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,ELSEWHERE:SSL"
    ),
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    "listener.name.sasl.plain.sasl.jaas.config": (
        'org.apache.kafka.common.security.plain.PlainLoginModule required user_ada="right";'
    ),
    "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    # A password that is changed is asked for again this soon.
    "listener.name.sasl.scram-sha-256.connections.max.reauth.ms": "4000",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "auto.create.topics.enable": "false",
}


class Secured:
    """One node, data and certificates in `folder`; a context manager. The thread that starts it owns it, as `Kafka`.

    `ada` has the password `right` by PLAIN, and may read nothing; others are made by `user`, for SCRAM-SHA-256.
    """

    def __init__(self, folder: Path) -> None:
        self.authority, self.stranger = Authority(folder / "authority"), Authority(folder / "stranger")
        self._tls, self._elsewhere = folder / "tls.pem", folder / "elsewhere.pem"
        self.certify(self.authority)
        self.authority.issue(self._elsewhere, "elsewhere.example")
        open_, sasl, tls, elsewhere, controller = (ports.free() for _ in range(5))
        doors = {"PLAINTEXT": open_, "SASL": sasl, "TLS": tls, "ELSEWHERE": elsewhere}
        listeners = ",".join(f"{name}://{address(port)}" for name, port in doors.items())
        self.kafka = Kafka(
            folder / "kafka",
            open_,
            settings={
                **SETTINGS,
                "listeners": f"{listeners},CONTROLLER://{address(controller)}",
                "advertised.listeners": listeners,
                "controller.quorum.voters": f"1@{address(controller)}",
                "listener.name.tls.ssl.keystore.type": "PEM",
                "listener.name.tls.ssl.keystore.location": str(self._tls),
                "listener.name.elsewhere.ssl.keystore.type": "PEM",
                "listener.name.elsewhere.ssl.keystore.location": str(self._elsewhere),
            },
        )
        #: Addresses by door.
        self.open, self.sasl, self.tls, self.elsewhere = map(address, (open_, sasl, tls, elsewhere))
        self._admin: AdminClient

    def __enter__(self) -> Self:
        self.kafka.start(patience=PATIENCE)
        self._admin = AdminClient({"bootstrap.servers": self.open, "log_level": 0})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kafka.stop()

    # ── who comes in ─────────────────────────────────────────────────────────────────────────────────────────

    def certify(self, by: Authority) -> None:
        """Have the TLS door show a certificate of that authority's, from the next start on."""
        by.issue(self._tls, ports.HOST)

    def plain(self, password: str = "right") -> Settings:
        """A client's settings for ada."""
        return self._sasl("PLAIN", "ada", password)

    def user(self, password: str = "right") -> str:
        """A new user, who may do nothing."""
        name = f"user-{uuid4().hex[:12]}"
        self.password(name, password)
        return name

    def password(self, user: str, password: str) -> None:
        """Change a user's password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        self._admin.alter_user_scram_credentials([change])[user].result(30)

    def scram(self, user: str, mechanism: str = "SCRAM-SHA-256") -> Settings:
        """A client's settings for a user with the password `right`."""
        return self._sasl(mechanism, user, "right")

    def over_tls(self, trusts: Authority) -> Settings:
        """A client's settings for the TLS door."""
        return {"bootstrap.servers": self.tls, "security.protocol": "ssl", "ssl.ca.location": str(trusts.certificate)}

    def _sasl(self, mechanism: str, user: str, password: str) -> Settings:
        return {
            "bootstrap.servers": self.sasl,
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    # ── what they may do ─────────────────────────────────────────────────────────────────────────────────────

    def allow(self, *rights: AclBinding) -> None:
        """Give rights: `reads`, `joins`, `writes`."""
        for given in self._admin.create_acls(list(rights)).values():
            given.result(30)
        self._known(rights, there=True)

    def forbid(self, *rights: AclBinding) -> None:
        """Take them back."""
        for taken in self._admin.delete_acls(list(map(as_filter, rights))).values():
            taken.result(30)
        self._known(rights, there=False)

    def _known(self, rights: Iterable[AclBinding], *, there: bool) -> None:
        for right in rights:
            until(lambda: bool(self._admin.describe_acls(as_filter(right)).result(30)) is there)  # noqa: B023


class Authority:
    """Signs certificates; its own is `certificate`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._authority = trustme.CA()
        self.certificate = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.certificate)

    def issue(self, path: Path, host: str) -> None:
        """A key and a certificate for `host` in one file, as Kafka reads them: the key in PKCS #8."""
        issued = self._authority.issue_cert(host)
        key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain)


def address(port: int) -> str:
    return f"{ports.HOST}:{port}"


def reads(user: str, topic: str) -> AclBinding:
    return _right(user, AclOperation.READ, ResourceType.TOPIC, topic)


def sees(user: str, topic: str) -> AclBinding:
    """To know of the topic, and not to read it."""
    return _right(user, AclOperation.DESCRIBE, ResourceType.TOPIC, topic)


def writes(user: str, topic: str) -> AclBinding:
    return _right(user, AclOperation.WRITE, ResourceType.TOPIC, topic)


def joins(user: str, group: str) -> AclBinding:
    return _right(user, AclOperation.READ, ResourceType.GROUP, group)


def _right(user: str, operation: AclOperation, kind: ResourceType, name: str) -> AclBinding:
    literal, allow = ResourcePatternType.LITERAL, AclPermissionType.ALLOW
    return AclBinding(kind, name, literal, f"User:{user}", "*", operation, allow)


def as_filter(right: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        right.restype,
        right.name,
        right.resource_pattern_type,
        right.principal,
        right.host,
        right.operation,
        right.permission_type,
    )
