"""The tables, and how they came to be: numbered steps that are never changed again, only followed by others.

``PRAGMA user_version`` says how many of them a database has seen. Every table, index and trigger is made by a step.

Secrets: ``verifiers.data`` is an argon2id text or sealed bytes (:mod:`connectd.directory.sealing`), and nothing else
holds anything that proves who somebody is.

``changes`` says which accounts, bans, keys and proven names have changed, in the order of the transactions, for those
who keep a copy in memory. Triggers write it, so whatever changes a row is noticed. The oldest entries are dropped; who
has missed some reads everything anew.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x636E6374
"""``PRAGMA application_id`` of our databases: "cnct"."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (  # 1
        """
        CREATE TABLE accounts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: seals are bound to it
            name TEXT NOT NULL,                    -- as it was given
            key TEXT NOT NULL UNIQUE,              -- names.account_key
            skeleton TEXT NOT NULL UNIQUE,         -- names.skeleton
            created REAL NOT NULL,                 -- Unix seconds, as everywhere
            disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
            protocols TEXT                         -- names, sorted, with spaces between; NULL: all
        )
        """,
        """
        CREATE TABLE verifiers (
            account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
            scheme TEXT NOT NULL,
            data NOT NULL,
            key_id TEXT,                           -- of the sealing key; NULL where it is not sealed
            PRIMARY KEY (account, scheme),
            CHECK (
                CASE WHEN key_id IS NULL
                THEN scheme = 'argon2id' AND typeof(data) = 'text' AND data LIKE '$argon2id$%'
                ELSE scheme GLOB 'sealed-*' AND typeof(data) = 'blob' AND length(data) >= 92
                END
            )
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE bans (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('address', 'network', 'account', 'uuid', 'key')),
            value TEXT NOT NULL,                   -- in its one canonical form
            reason TEXT NOT NULL,
            expires REAL,                          -- NULL: never
            created REAL NOT NULL,
            created_by TEXT NOT NULL,
            UNIQUE (kind, value)
        )
        """,
        """
        CREATE TABLE registered_keys (
            uuid BLOB NOT NULL PRIMARY KEY CHECK (typeof(uuid) = 'blob' AND length(uuid) = 16),
            key BLOB NOT NULL CHECK (typeof(key) = 'blob'),  -- DER SubjectPublicKeyInfo
            created REAL NOT NULL,
            replaced REAL
        )
        """,
        """
        CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            who TEXT NOT NULL,
            action TEXT NOT NULL,
            subject TEXT NOT NULL,
            details TEXT NOT NULL                  -- a JSON object
        )
        """,
        "CREATE INDEX audit_subject ON audit (subject, id)",
        """
        CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END
        """,
        """
        CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END
        """,
        "CREATE TABLE state (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject NOT NULL)",
        """
        CREATE TRIGGER account_added AFTER INSERT ON accounts
        BEGIN INSERT INTO changes (kind, subject) VALUES ('account', NEW.key); END
        """,
        """
        CREATE TRIGGER account_changed AFTER UPDATE ON accounts
        BEGIN
            INSERT INTO changes (kind, subject) VALUES ('account', NEW.key);
            INSERT INTO changes (kind, subject) SELECT 'account', OLD.key WHERE OLD.key <> NEW.key;
        END
        """,
        """
        CREATE TRIGGER account_removed AFTER DELETE ON accounts
        BEGIN INSERT INTO changes (kind, subject) VALUES ('account', OLD.key); END
        """,
        """
        CREATE TRIGGER verifier_added AFTER INSERT ON verifiers
        BEGIN INSERT INTO changes (kind, subject) SELECT 'account', key FROM accounts WHERE id = NEW.account; END
        """,
        """
        CREATE TRIGGER verifier_changed AFTER UPDATE ON verifiers
        BEGIN
            INSERT INTO changes (kind, subject)
            SELECT 'account', key FROM accounts WHERE id IN (NEW.account, OLD.account);
        END
        """,
        """
        CREATE TRIGGER verifier_removed AFTER DELETE ON verifiers
        BEGIN INSERT INTO changes (kind, subject) SELECT 'account', key FROM accounts WHERE id = OLD.account; END
        """,
        """
        CREATE TRIGGER ban_added AFTER INSERT ON bans
        BEGIN INSERT INTO changes (kind, subject) VALUES ('ban', NEW.kind || ' ' || NEW.value); END
        """,
        """
        CREATE TRIGGER ban_changed AFTER UPDATE ON bans
        BEGIN
            INSERT INTO changes (kind, subject) VALUES ('ban', NEW.kind || ' ' || NEW.value);
            INSERT INTO changes (kind, subject) SELECT 'ban', OLD.kind || ' ' || OLD.value
            WHERE OLD.kind <> NEW.kind OR OLD.value <> NEW.value;
        END
        """,
        """
        CREATE TRIGGER ban_removed AFTER DELETE ON bans
        BEGIN INSERT INTO changes (kind, subject) VALUES ('ban', OLD.kind || ' ' || OLD.value); END
        """,
        """
        CREATE TRIGGER key_added AFTER INSERT ON registered_keys
        BEGIN INSERT INTO changes (kind, subject) VALUES ('key', NEW.uuid); END
        """,
        """
        CREATE TRIGGER key_changed AFTER UPDATE ON registered_keys
        BEGIN
            INSERT INTO changes (kind, subject) VALUES ('key', NEW.uuid);
            INSERT INTO changes (kind, subject) SELECT 'key', OLD.uuid WHERE OLD.uuid <> NEW.uuid;
        END
        """,
        """
        CREATE TRIGGER key_removed AFTER DELETE ON registered_keys
        BEGIN INSERT INTO changes (kind, subject) VALUES ('key', OLD.uuid); END
        """,
    ),
    (  # 2
        """
        CREATE TABLE proven_names (
            protocol TEXT NOT NULL,
            name TEXT NOT NULL,                    -- as the protocol compares them
            since REAL NOT NULL,
            PRIMARY KEY (protocol, name)
        ) WITHOUT ROWID
        """,
        """
        CREATE TRIGGER proven_name_added AFTER INSERT ON proven_names
        BEGIN INSERT INTO changes (kind, subject) VALUES ('name', NEW.protocol || ' ' || NEW.name); END
        """,
        """
        CREATE TRIGGER proven_name_removed AFTER DELETE ON proven_names
        BEGIN INSERT INTO changes (kind, subject) VALUES ('name', OLD.protocol || ' ' || OLD.name); END
        """,
    ),
)
"""The steps, in order: the statements of each, which run in one transaction."""
