"""Tests of the way into the world (AL-9), both sides, in both orders."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from connectd.protocols.alloy import packets as alloy
from connectd.protocols.alloy.client_machine import (
    AssetBegun,
    AssetCompleted,
    AssetReceived,
    PacketReceived,
    WorldEntered,
)
from connectd.protocols.alloy.fields import Asset
from connectd.protocols.alloy.packets import AssetPart
from connectd.protocols.alloy.server_machine import MAXIMUM_SHOWN, AssetsRequested
from connectd.protocols.alloy.settings import ORDERS, PROFILES
from connectd.protocols.alloy.states import ConnectionState, Stage
from connectd.protocols.alloy.world import World
from connectd.sansio import LocalProtocolError, Outcome, Received
from tests.protocols.alloy.pair import ASSETS, CONTENTS, NOW, WORLD, Pair, ServerSide


def names(packets: list[Any]) -> list[str]:
    return [type(packet).__name__ for packet in packets]


TRANSFER = ["AssetInitialize", "AssetPart", "AssetFinalize"]


class OrderTests(SynchronousTestCase):
    def test_seed(self) -> None:
        """AL-9: ClientReady, SetClientId, JoinWorld, WorldSettings, RequestAssets, the assets, WorldLoadFinished."""
        side = ServerSide(order="seed").login()
        side.said.clear()
        self.assertEqual(side.hear(alloy.ClientReady()), [Received(alloy.ClientReady())])
        self.assertEqual(
            side.said,
            [alloy.SetClientId(7), alloy.JoinWorld(1, 1, WORLD), alloy.WorldSettings(320, ASSETS)],
        )
        side.said.clear()
        wanted = (ASSETS[2], ASSETS[0])
        self.assertEqual(side.hear(alloy.RequestAssets(wanted)), [AssetsRequested(wanted)])
        side.send_assets(wanted)
        self.assertEqual(names(side.said), [*TRANSFER, *TRANSFER, "WorldLoadFinished"])
        self.assertEqual(side.said[0], alloy.AssetInitialize(1000, ASSETS[2]))
        self.assertEqual(side.said[1], AssetPart(CONTENTS[ASSETS[2]]))
        self.assertIs(side.machine.state, ConnectionState.PLAY)

    def test_observed(self) -> None:
        """AL-9: WorldSettings, RequestAssets, the assets, WorldLoadFinished, JoinWorld, ClientReady."""
        side = ServerSide(order="observed").login()
        self.assertEqual(names(side.said), ["ConnectAccept", "PasswordAccepted", "ServerAuthToken", "WorldSettings"])
        side.said.clear()
        side.hear(alloy.RequestAssets(ASSETS[1:2]))
        side.send_assets(ASSETS[1:2])
        expected = ["AssetInitialize", "AssetFinalize", "WorldLoadFinished", "SetClientId", "JoinWorld"]
        self.assertEqual(names(side.said), expected)
        self.assertIs(side.machine._stage, Stage.READY)
        self.assertEqual(side.hear(alloy.ClientReady()), [Received(alloy.ClientReady())])
        self.assertIs(side.machine._stage, Stage.LOADED)
        self.assertEqual(side.hear(alloy.ClientReady(1, 1)), [Received(alloy.ClientReady(1, 1))])

    def test_nothing_is_needed(self) -> None:
        """AL-9: who has everything asks for nothing, and the world is loaded."""
        for packet in (alloy.RequestAssets(), alloy.RequestAssets(())):
            side = ServerSide().login()
            side.hear(alloy.ClientReady())
            self.assertEqual(side.hear(packet), [])
            self.assertEqual(side.said[-1], alloy.WorldLoadFinished())

    def test_once(self) -> None:
        """AL-9: each asset is requested at most once, in one request and in all."""
        side = ServerSide().login()
        side.hear(alloy.ClientReady(), alloy.RequestAssets((ASSETS[0], ASSETS[1], ASSETS[0])))
        assert side.ended is not None
        self.assertEqual(
            (side.ended.outcome, side.said[-1].reason), (Outcome.MALFORMED, "An asset was requested twice")
        )
        side = ServerSide().login()
        side.hear(alloy.ClientReady(), alloy.RequestAssets(ASSETS[:1]), alloy.RequestAssets(ASSETS[:1]))
        assert side.ended is not None
        self.assertEqual(side.said[-1].reason, "Unexpected packet RequestAssets in PLAY")
        side = ServerSide().login()
        side.hear(alloy.ClientReady(), alloy.RequestAssets(ASSETS[:1]))
        side.send_assets(ASSETS[:1])
        side.hear(alloy.RequestAssets(ASSETS[1:]))
        self.assertEqual(side.said[-1].reason, "Unexpected packet RequestAssets in PLAY")

    def test_unknown(self) -> None:
        """AL-10: an asset that is not there is named to whoever asks for it, and so is one by another name."""
        for asset in (Asset("0" * 64, "fi"), Asset(ASSETS[0].hash, "other")):
            side = ServerSide().login()
            side.hear(alloy.ClientReady(), alloy.RequestAssets((asset,)))
            assert side.ended is not None
            self.assertEqual(side.said[-1].reason, f"Unknown asset: {asset.name}")

    def test_unknown_in_a_small_world(self) -> None:
        """AL-10: also where it takes more room than all that the world has."""
        asset = Asset("0" * 64, "n" * 512)
        for wanted in ((asset,), (*(Asset(f"{number:064}", "n" * 400) for number in range(100)), asset)):
            side = ServerSide(assets=()).login()
            side.hear(alloy.ClientReady(), alloy.RequestAssets(wanted))
            self.assertEqual(side.said[-1].reason, f"Unknown asset: {wanted[0].name[:MAXIMUM_SHOWN]}")

    def test_pings_go_on(self) -> None:
        """AL-14: while assets are sent, too; a request is work, not a Decision."""
        side = ServerSide().login()
        side.hear(alloy.ClientReady(), alloy.RequestAssets(ASSETS))
        self.assertIsNone(side.machine.decision)
        side.wait(10)
        self.assertIsInstance(side.said[-1], alloy.Ping)
        side.hear(alloy.Pong(0))
        self.assertIsNone(side.ended)

    def test_verbs_in_their_order(self) -> None:
        """AL-9: nobody sends what was not asked for, more or less than its size, or ends too early."""
        machine = ServerSide().login().machine
        self.assertRaises(LocalProtocolError, machine.begin_asset, ASSETS[0], 3, NOW)
        self.assertRaises(LocalProtocolError, machine.finish_assets, NOW)
        side = ServerSide().login()
        side.hear(alloy.ClientReady(), alloy.RequestAssets(ASSETS[:2]))
        machine = side.machine
        part = AssetPart(b"one").encode()
        for verb, arguments in (
            (machine.begin_asset, (ASSETS[2], 3)),
            (machine.asset_part, (part, 3)),
            (machine.end_asset, ()),
            (machine.finish_assets, ()),
            (machine.begin_asset, (ASSETS[0], 1 << 31)),
        ):
            self.assertRaises(LocalProtocolError, verb, *arguments, NOW)
        machine.begin_asset(ASSETS[0], 4, NOW)
        machine.asset_part(part, 3, NOW)
        self.assertRaises(LocalProtocolError, machine.asset_part, part, 3, NOW)
        self.assertRaises(LocalProtocolError, machine.end_asset, NOW)
        self.assertRaises(LocalProtocolError, machine.begin_asset, ASSETS[1], 3, NOW)
        machine.asset_part(AssetPart(b"1").encode(), 1, NOW)
        machine.end_asset(NOW)
        self.assertRaises(LocalProtocolError, machine.begin_asset, ASSETS[0], 4, NOW)
        self.assertRaises(LocalProtocolError, machine.finish_assets, NOW)

    def test_world(self) -> None:
        """AL-17: at most 65,536 assets."""
        World(1, WORLD, (Asset(f"{number:064x}", "") for number in range(65_536)))
        self.assertRaises(ValueError, World, 1, WORLD, [Asset(f"{number:064x}", "") for number in range(65_537)])


class PairTests(SynchronousTestCase):
    def test_both_sides(self) -> None:
        """AL-9, AL-15: client and server in each order and each profile come to the same end."""
        for order in ORDERS:
            for profile in PROFILES:
                pair = Pair(order=order, profile=profile).run()
                self.assertIs(pair.client.state, ConnectionState.PLAY)
                self.assertIs(pair.server.machine.state, ConnectionState.PLAY)
                self.assertIs(pair.server.machine._stage, Stage.LOADED)
                self.assertEqual(pair.client.client_id, 7)
                found = [event for event in pair.client_events if isinstance(event, WorldEntered)]
                self.assertEqual(found, [WorldEntered()])
                self.assertIn(Received(alloy.ClientReady()), pair.server.events)
                for asset, content in CONTENTS.items():
                    begun = pair.client_events.index(AssetBegun(asset, len(content)))
                    if content:
                        self.assertEqual(pair.client_events[begun + 1], AssetReceived(content))
                    self.assertIn(AssetCompleted(asset), pair.client_events[begun:])

    def test_packets_are_told(self) -> None:
        """AL-1: who watches a client sees every packet of the way, in order."""
        pair = Pair(order="seed", assets=()).run()
        told = [type(event.packet).__name__ for event in pair.client_events if isinstance(event, PacketReceived)]
        self.assertEqual(
            told,
            [
                "ConnectAccept",
                "PasswordAccepted",
                "ServerAuthToken",
                "SetClientId",
                "JoinWorld",
                "WorldSettings",
                "WorldLoadFinished",
            ],
        )

    def test_wrong_password(self) -> None:
        """AL-8: both sides know that it was wrong, and the client hears it from the server."""
        pair = Pair(password=b"wrong").run()
        self.assertEqual(pair.client_events[-1].outcome, Outcome.REFUSED)  # type: ignore[attr-defined]  # it is Ended
        self.assertEqual(
            pair.client_events[-1].reason,  # type: ignore[attr-defined]  # it is Ended
            "the server disconnected: Wrong password",
        )
        self.assertIs(pair.client.state, ConnectionState.DISCONNECTING)
