"""What can go wrong with the directory. The text of each error is one line: what, which, and the way out."""

from __future__ import annotations


class DirectoryError(Exception):
    """The directory cannot do what was asked for. Whoever asked to let somebody in refuses."""


# The database as a file


class DatabaseError(DirectoryError):
    """The database cannot be used."""


class MissingDatabaseError(DatabaseError):
    """There is no database at that path."""


class LockedDatabaseError(DatabaseError):
    """Another process keeps the database for itself."""


class ReadOnlyDatabaseError(DatabaseError):
    """The database or its directory may not be written."""


class DiskFullError(DatabaseError):
    """There is no room for the change. What was acknowledged before is safe."""


class DamagedDatabaseError(DatabaseError):
    """The file is no database, or one that is cut short or inconsistent."""


class NewerDatabaseError(DatabaseError):
    """A newer version of connectd has written this database."""


# The sealing key


class SealingKeyError(DirectoryError):
    """Sealed verifiers cannot be opened or made."""


class MissingKeyError(SealingKeyError):
    """There is no sealing key, or it may not be read."""


class WrongKeyError(SealingKeyError):
    """The key file has not the key that is needed."""


class BrokenSealError(SealingKeyError):
    """A sealed verifier was changed, or belongs to another account or scheme."""


# What the directory holds


class InvalidNameError(DirectoryError):
    """A text cannot be the name of an account."""


class InvalidPasswordError(DirectoryError):
    """A password cannot be used."""


class InvalidBanError(DirectoryError):
    """That cannot be banned."""


class InvalidKeyError(DirectoryError):
    """That cannot be registered."""


class AccountExistsError(DirectoryError):
    """There is an account of that name, or of one that looks like it."""


class UnknownAccountError(DirectoryError):
    """There is no account of that name."""


class MissingVerifierError(DirectoryError):
    """An account has no verifier of that scheme."""


class NotBannedError(DirectoryError):
    """There is no such ban."""


class AlreadyRegisteredError(DirectoryError):
    """The UUID has a key."""


class NotRegisteredError(DirectoryError):
    """The UUID has no key."""


class KeyChangedError(DirectoryError):
    """The UUID's key is another one by now."""


class RegistryFullError(DirectoryError):
    """No more keys are taken."""
