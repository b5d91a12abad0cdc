"""The keys of listeners and clients."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from connectd.directory import SEALED_PASSWORD, SEALED_SHA256
from connectd.protocols.starbound.generations import GENERATIONS
from connectd.protocols.starbound.settings import StarboundClientSettings, StarboundSettings
from connectd.structure import StructureError, from_text, structure


class SettingsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """SB-4, SB-5, SB-8, SB-22: the figures of the rules."""
        settings = StarboundSettings()
        self.assertEqual(settings.generations, ("seed",))
        self.assertEqual((settings.rounds, settings.version, settings.anonymous), (5000, 0x274, False))
        self.assertEqual((settings.hash_budget, settings.hashes_waiting), (0.5, 64))
        self.assertEqual((settings.client_connect_limit, settings.login_memory), (8 << 20, 256 << 20))
        self.assertEqual(settings.spool_limit, 1 << 30)
        self.assertEqual((settings.generation_wait, settings.frame_limit), (0.3, 64 << 20))
        self.assertEqual(StarboundClientSettings().max_rounds, 100_000)

    def test_generations(self) -> None:
        """One, or several in a list; what they need of accounts follows (SB-7, SB-20)."""
        for value, generations, schemes in (
            ("seed", ("seed",), (SEALED_SHA256,)),
            ("opensb", ("opensb",), (SEALED_PASSWORD,)),
            (["1.4", "opensb"], ("1.4", "opensb"), (SEALED_PASSWORD,)),
            (["enraged-koala", "1.4"], ("enraged-koala", "1.4"), (SEALED_SHA256, SEALED_PASSWORD)),
        ):
            settings = structure(StarboundSettings, {"generation": value})
            self.assertEqual((settings.generations, settings.account_schemes), (generations, schemes))
        for text, generations in (("1.4", ("1.4",)), ("seed,1.4", ("seed", "1.4"))):
            self.assertEqual(from_text(StarboundSettings, {"generation": text}).generations, generations)

    def test_wrong(self) -> None:
        for key, value in (
            ("generation", "1.5"),
            ("generation", []),
            ("generation", ["seed", "seed"]),
            ("generation", ["seed", "furious-koala"]),
            ("generation", "auto"),
            ("rounds", 99),
            ("rounds", 100_001),
            ("compression", "gzip"),
            ("hashes_in_work", 0),
        ):
            with self.assertRaises(StructureError) as caught:
                structure(StarboundSettings, {key: value})
            self.assertTrue(caught.exception.problems[0].startswith(f"{key}: "))

    def test_spool_directory(self) -> None:
        """SB-8: a place in which no file can be made is one clear line before there is a listener."""
        folder = self.mktemp()
        os.mkdir(folder)
        self.assertEqual(list(StarboundSettings(spool_directory=folder).look()), [])
        self.assertEqual(os.listdir(folder), [])
        with open(f"{folder}/file", "wb"):
            pass
        for place, why in (("/nowhere/at/all", "No such file or directory"), (f"{folder}/file", "Not a directory")):
            self.assertEqual(
                list(StarboundSettings(spool_directory=place).look()),
                [
                    f"spool_directory: ships cannot be kept in {place}: {why} "
                    "(name a directory that exists and may be written)"
                ],
            )
        self.assertEqual(list(StarboundSettings().look()), [])

    def test_client(self) -> None:
        for generation in (*GENERATIONS, "auto"):
            self.assertEqual(StarboundClientSettings(generation=generation).generation, generation)
        for key, value in (
            ("generation", "2.0"),
            ("uuid", "00112233"),
            ("digest", "abc"),
            ("name", "x" * 256),
            ("password", "secret"),
        ):
            with self.assertRaises(StructureError) as caught:
                from_text(StarboundClientSettings, {key: value})
            self.assertTrue(caught.exception.problems[0].startswith(f"{key}: "))
        uuid = "00112233-4455-6677-8899-AABBCCDDEEFF"
        self.assertEqual(from_text(StarboundClientSettings, {"uuid": uuid}).uuid, uuid)
