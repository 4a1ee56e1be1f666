"""slixmpp as an administrator: ad-hoc commands (XEP-0050, XEP-0133, XEP-0401) against a running server.

Usage: admin.py --host H --starttls P --tls P --ca FILE --user A --peer B --new N --password W

A is an administrator, B is not, N has no account yet. Prints one line for each check, as slix.py does. The last thing
that it does is to have the server restarted.
"""

import asyncio

from slixmpp.exceptions import IqError

from slix import DOMAIN, WAIT_S, Peer, Refused, options, perform

ADMIN = "http://jabber.org/protocol/admin"


class Client(Peer):
    """A client that shows commands."""

    def __init__(self, args, user, password, resource):
        super().__init__(args, user, password, resource)
        for plugin in ("xep_0004", "xep_0050", "xep_0133"):
            self.register_plugin(plugin)

    async def execute(self, start, values=None):
        """Runs a command as a dialogue would, by the plugin's own workflow; the answer that ends it."""
        answer = asyncio.get_running_loop().create_future()

        def shown(iq, session):
            command = iq["command"]
            if command["status"] != "executing" or values is None:
                answer.done() or answer.set_result(command)
                return
            asked = {name: field for name, field in command["form"].get_fields().items() if name != "FORM_TYPE"}
            missing = [name for name, field in asked.items() if field["required"] and name not in values]
            foreign = [name for name in values if name not in asked]
            if missing or foreign:
                answer.set_exception(AssertionError(f"the form wants {missing} and does not know {foreign}"))
                return
            form = self.plugin["xep_0004"].make_form("submit")
            kind = command["form"].get_fields().get("FORM_TYPE")
            if kind is not None:
                form.add_field("FORM_TYPE", "hidden", value=kind["value"])
            for name, value in values.items():
                form.add_field(name, value=value)
            session["payload"] = form
            self.plugin["xep_0050"].complete_command(session)

        def refused(iq, session):
            answer.done() or answer.set_exception(IqError(iq))
            self.plugin["xep_0050"].terminate_command(session)

        start(session={"next": shown, "error": refused})
        return await asyncio.wait_for(answer, WAIT_S)

    async def administer(self, name, **values):
        values = {name.replace("password_", "password-"): value for name, value in values.items()}
        start = getattr(self.plugin["xep_0133"], name.replace("-", "_"))
        return await self.execute(start, values)


async def expect(condition, work):
    try:
        await work
    except IqError as error:
        assert error.condition == condition, error.condition
    else:
        raise AssertionError(f"{condition} was expected")


async def administration(check, args):
    admin = await Client(args, args.user, args.password, "desk").arrive()
    user = await Client(args, args.peer, args.password, "street").arrive()
    new = f"{args.new}@{DOMAIN}"
    async with check("commands: an administrator finds them, nobody else"):
        found = await admin.plugin["xep_0133"].get_commands(timeout=WAIT_S)
        nodes = {item[1] for item in found["disco_items"]["items"]}
        assert {f"{ADMIN}#add-user", f"{ADMIN}#shutdown"} <= nodes, nodes
        none = await user.plugin["xep_0133"].get_commands(timeout=WAIT_S)
        assert not [item for item in none["disco_items"]["items"] if item[1].startswith(ADMIN)], none
    async with check("commands: a user is refused"):
        await expect("forbidden", user.administer("add-user"))
        await expect("forbidden", user.administer("get-online-users-num"))
    async with check("commands: a user is added, and logs in"):
        await admin.administer("add-user", accountjid=new, password="mab", password_verify="mab")
        await expect("conflict", admin.administer("add-user", accountjid=new, password="m", password_verify="m"))
        queen = await Client(args, args.new, "mab", "dream").arrive()
    async with check("commands: online users are counted and listed"):
        number = await admin.administer("get-online-users-num")
        # Those of other checks may not be gone yet.
        assert int(number["form"].get_values()["onlineusersnum"]) >= 3, number
        users = await admin.administer("get-online-users-list", max_items="25")
        online = users["form"].get_values()["onlineuserjids"]
        online = online.split("\n") if isinstance(online, str) else online
        assert {admin.boundjid.bare, user.boundjid.bare, new} <= set(online), online
    async with check("commands: an announcement reaches everybody"):
        since = len(user.seen), len(queen.seen)
        await admin.administer("announce", announcement="A plague o' both your houses!")
        for one, start in zip((user, queen), since):
            told = await one.message("A plague o' both your houses!", start)
            assert told["from"].bare == DOMAIN and told["type"] == "headline", told
    async with check("commands: another password ends the session, and is the one that counts"):
        await admin.administer("change-user-password", accountjid=new, password="titania")
        await gone(queen)
        queen = await Client(args, args.new, "titania", "dream").arrive()
    async with check("commands: a deleted user is gone"):
        await admin.administer("delete-user", accountjids=[new])
        await gone(queen)
        try:
            await Client(args, args.new, "titania", "dream").login()
        except Refused:
            pass
        else:
            raise AssertionError("the account is still there")
    async with check("commands: an invitation is made, and says how long it is good"):
        start = admin.plugin["xep_0050"].start_command
        made = await admin.execute(
            lambda session: start(DOMAIN, "urn:xmpp:invite#create-account", session), {"username": args.new})
        values = made["form"].get_values()
        assert values["uri"].startswith(f"xmpp:{new}?register;preauth="), values
        assert values["expire"].endswith("Z") and values["landing-url"].startswith("https://"), values
    async with check("commands: the server is restarted"):
        since = len(user.seen)
        await admin.administer("restart", announcement="Back in a moment")
        await user.message("Back in a moment", since)
        await gone(user)


async def gone(peer):
    """Its stream has ended."""
    for _ in range(int(WAIT_S * 10)):
        if not peer.is_connected():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{peer.boundjid} is still connected")


if __name__ == "__main__":
    perform(administration, options("new").parse_args())
