"""An issuer of tokens, as a platform has one."""

import time
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "logs"


class Issuer:
    """Signs with the newest of its keys; the key set has all that it hasn't dropped."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self._keys: dict[str, tuple[str, Any]] = {}
        self._made = 0
        self.rotate(algorithm)

    def rotate(self, algorithm: str = "ES256") -> str:
        """Make a new key, and sign with it from now on; its id."""
        self._made += 1
        self.kid = f"key-{self._made}"
        private: Any
        if algorithm == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        elif algorithm == "EdDSA":
            private = ed25519.Ed25519PrivateKey.generate()
        else:
            private = rsa.generate_private_key(65537, 2048)
        self._keys[self.kid] = (algorithm, private)
        return self.kid

    def replace(self) -> None:
        """Make a new key under the id of the one that it takes the place of."""
        kid = self.kid
        self._keys[kid] = self._keys.pop(self.rotate())
        self.kid = kid

    def drop(self, kid: str) -> None:
        del self._keys[kid]

    def jwks(self) -> bytes:
        keys = []
        for kid, (algorithm, private) in self._keys.items():
            kind = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}.get(algorithm, RSAAlgorithm)
            keys.append({**kind.to_jwk(private.public_key(), as_dict=True), "kid": kid, "alg": algorithm})
        return orjson.dumps({"keys": keys})

    def private(self) -> Any:
        return self._keys[self.kid][1]

    def token(self, *, seconds: float = 600, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token that expires in so many seconds. Claims that are None are left out."""
        said = {
            "sub": "anna",
            "aud": AUDIENCE,
            "exp": time.time() + seconds,
            "tenant": "local",
            "scope": "logs:read logs:write",
            **claims,
        }
        algorithm, private = self._keys[self.kid]
        given = {name: value for name, value in said.items() if value is not None}
        head = {"kid": self.kid, **(headers or {})}
        return jwt.encode(given, private, algorithm, headers={name: text for name, text in head.items() if text})
