"""Who people are, for all protocols: accounts, bans, registered keys, and the trail of who changed them.

One SQLite database, safe at rest, with two faces. Both offer the same operations; what was acknowledged by either
survives SIGKILL and a power failure.

**The synchronous face** is :class:`Database`, for the command line and for threads. It imports no Twisted::

    from connectd.directory import ARGON2ID, SEALED_SHA256, Database, KeyFile

    with Database.open("state/connectd.db", keys=KeyFile("state/directory.key")) as database:
        account = database.accounts.add("Alice", "swordfish", schemes=[ARGON2ID, SEALED_SHA256], by="admin")
        account.verifiers[SEALED_SHA256].reversible           # does the key give the password itself back?
        database.accounts.set_password("alice", "new", by="admin")            # all schemes that it has
        database.accounts.set_password("alice", "new", schemes=[...], by="admin")  # just these from now on
        database.accounts.set_protocols("alice", ["lekt", "fmltp"], by="admin")    # None: all
        database.accounts.set_disabled("alice", True, by="admin")
        database.accounts.find("ALICE")                        # Account or None;  get() raises UnknownAccountError
        database.accounts.list(after="", limit=100)            # in the order of their keys
        database.accounts.remove("alice", by="admin")

        database.bans.add("network", "192.0.2.0/24", reason="spam", expires=time.time() + 3600, by="admin")
        database.bans.remove("network", "192.0.2.0/24", by="admin")
        database.bans.list(); database.bans.expire(by="daemon")

        database.keys.register(uuid, der, by="chatr")          # AlreadyRegisteredError where there is one
        database.keys.replace(uuid, der, expected=old_der, by="chatr")  # NotRegisteredError, KeyChangedError
        database.keys.get(uuid)                                # RegisteredKey or None

        database.audit.list(limit=50)                          # newest first; every change above wrote one entry
        database.backup("backup.db")                           # while everything runs
        database.check()                                       # problems, one line each; empty when sound

    create_key("state/directory.key")                          # never overwrites
    rotate_key(database, by="admin")                           # new key, everything sealed anew, old one dropped
    give_up_lost_verifiers(database, by="admin")               # only where a key is lost for good
    prepare(path, keys=..., schemes=...)                       # make, migrate, verify, close: for start-up checks

Each change is one transaction and is in the audit trail. ``by`` says who made it. Whatever goes wrong is a
:class:`DirectoryError` whose text is one line that names the thing and the way out (:mod:`connectd.directory.errors`).

**The asynchronous face** is :class:`connectd.directory.service.DirectoryService`, a Twisted service::

    from connectd.directory.service import DirectoryService

    directory = DirectoryService(path, keys=KeyFile(...), schemes={...}, reactor=reactor)
    directory.setServiceParent(daemon)
    await directory.ready()                                    # read in; fails with the DirectoryError

    # At once, from memory, never from the disk. DirectoryError where memory cannot be trusted: refuse then.
    account = directory.find_account(name)                     # Account or None
    account.allows("starbound"), account.disabled              # policy: ask after the proof (COM-4)
    directory.secret(account, SEALED_SHA256)                   # bytes; for None and the like a decoy (COM-10)
    directory.registered_key(uuid)                             # DER bytes or None
    directory.match_address(host)                              # why it is banned, or None: Admission(bans=...)
    directory.match_account(name); directory.match_uuid(uuid); directory.match_key(der)

    # Deferreds
    await directory.check_password(name, password)             # Account, or None: wrong or unknown alike (COM-10)
    await directory.register_key(uuid, der, by="chatr")        # fires once durable
    await directory.replace_key(uuid, der, expected=old, by="chatr")
    await directory.run(lambda database: database.bans.add(..., by="admin"))   # anything of the synchronous face
    await directory.refresh()                                  # somebody else has written: look again
    await directory.backup(path)

What :meth:`~connectd.directory.service.DirectoryService.run` wrote is in memory before its Deferred fires. Writes of
other processes, connectctl say, are noticed on :meth:`~connectd.directory.service.DirectoryService.refresh`, and
within a few seconds without it.

:mod:`connectd.directory.checkers` has the twisted.cred checker. What the operator can set is
:class:`connectd.directory.settings.DirectorySettings`.
"""

from connectd.directory.accounts import Account, Accounts, Verifier
from connectd.directory.audit import Audit, AuditEntry
from connectd.directory.bans import KINDS, Ban, Bans
from connectd.directory.database import Database, prepare
from connectd.directory.errors import (
    AccountExistsError,
    AlreadyRegisteredError,
    BrokenSealError,
    DamagedDatabaseError,
    DatabaseError,
    DirectoryError,
    DiskFullError,
    InvalidBanError,
    InvalidKeyError,
    InvalidNameError,
    InvalidPasswordError,
    KeyChangedError,
    LockedDatabaseError,
    MissingDatabaseError,
    MissingKeyError,
    MissingVerifierError,
    NewerDatabaseError,
    NotBannedError,
    NotRegisteredError,
    ReadOnlyDatabaseError,
    RegistryFullError,
    SealingKeyError,
    UnknownAccountError,
    WrongKeyError,
)
from connectd.directory.registered_keys import RegisteredKey, RegisteredKeys, fingerprint
from connectd.directory.rotation import Rotation, give_up_lost_verifiers, rotate_key
from connectd.directory.schemes import ARGON2ID, SCHEMES, SEALED_PASSWORD, SEALED_SHA256, Scheme
from connectd.directory.sealing import KeyFile, create_key
from connectd.directory.settings import DirectorySettings

__all__ = [
    "ARGON2ID",
    "KINDS",
    "SCHEMES",
    "SEALED_PASSWORD",
    "SEALED_SHA256",
    "Account",
    "AccountExistsError",
    "Accounts",
    "AlreadyRegisteredError",
    "Audit",
    "AuditEntry",
    "Ban",
    "Bans",
    "BrokenSealError",
    "DamagedDatabaseError",
    "Database",
    "DatabaseError",
    "DirectoryError",
    "DirectorySettings",
    "DiskFullError",
    "InvalidBanError",
    "InvalidKeyError",
    "InvalidNameError",
    "InvalidPasswordError",
    "KeyChangedError",
    "KeyFile",
    "LockedDatabaseError",
    "MissingDatabaseError",
    "MissingKeyError",
    "MissingVerifierError",
    "NewerDatabaseError",
    "NotBannedError",
    "NotRegisteredError",
    "ReadOnlyDatabaseError",
    "RegisteredKey",
    "RegisteredKeys",
    "RegistryFullError",
    "Rotation",
    "Scheme",
    "SealingKeyError",
    "UnknownAccountError",
    "Verifier",
    "WrongKeyError",
    "create_key",
    "fingerprint",
    "give_up_lost_verifiers",
    "prepare",
    "rotate_key",
]
