"""The RSA key of the reference's auth-service, from its key files: only the public part is taken."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from codelab.errors import StartError
from codelab.import_records import TokenKey

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ("AUDIENCE", "ISSUER", "read_token_key")

#: The reference's defaults of AUTH_SERVICE__JWT_ISSUER and AUTH_SERVICE__JWT_AUDIENCE.
ISSUER = "https://auth.codelab.local"
AUDIENCE = "codelab-api"
_FILES = ("public_key.pem", "private_key.pem")
_MIN_BITS = 2048


def read_token_key(folder: Path, issuer: str, audience: str) -> TokenKey:
    """Read the key from ``public_key.pem`` or ``private_key.pem``; where both are there they must belong together.

    Raises:
        StartError: there is none, or it is not an RSA key of 2048 bits or more.
    """
    keys = [key for name in _FILES if (key := _read(folder / name)) is not None]
    if not keys:
        raise StartError(f"--keys: {folder} has neither {_FILES[0]} nor {_FILES[1]}.")
    if len({key.thumbprint() for key in keys}) > 1:
        raise StartError(f"--keys: {_FILES[0]} and {_FILES[1]} in {folder} do not belong together.")
    return TokenKey(public_jwk=dict(keys[0].as_dict(private=False)), issuer=issuer, audience=audience)


def _read(path: Path) -> RSAKey | None:
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(f"--keys: {path} cannot be read: {error.strerror}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a short key, which is refused below
            key = RSAKey.import_key(pem)
    except (JoseError, ValueError, TypeError):
        raise StartError(f"--keys: {path} is no RSA key in PEM form without a passphrase.") from None
    if key.raw_value.key_size < _MIN_BITS:
        raise StartError(f"--keys: {path} holds a key of fewer than {_MIN_BITS} bits.")
    return key
