"""poezio, a terminal client for rooms, in tmux: driven by keys, judged by its screen.

Usage: poezio_tmux.py --poezio PROGRAM --starttls P --tls P --ca FILE --user A --peer B --password W

Prints one line for each check, as slix.py does.
"""

import os
import time

import terminal
from terminal import DOMAIN, LOOK_S


class Poezio(terminal.Screen):
    """One poezio with a configuration that says no more than where the server is."""

    def __init__(self, tmux, folder, args, name, user):
        super().__init__(tmux, args, name, user)
        home = folder / user
        home.mkdir()
        settings = home / "poezio.cfg"
        settings.write_text(
            f"[Poezio]\njid = {self.jid}\npassword = {args.password}\ncustom_host = 127.0.0.1\n"
            f"custom_port = {args.starttls}\nca_cert_path = {args.ca}\n")
        # It does not run as root, so in a name space of its own it is not.
        lower = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        self.start({"HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_DATA_HOME": home / "data",
                    "XDG_CACHE_HOME": home / "cache", "LANG": "C.UTF-8", "TERM": "screen"},
                   [args.poezio, "-f", str(settings)], lower)

    def say(self, line):
        """A key for itself opens the line: what comes in one go counts as pasted."""
        for keys in (("-l", line[0]), ("-l", line[1:]), ("Enter",)):
            self.tmux("send-keys", "-t", self.name, *keys)
            time.sleep(2 * LOOK_S)


def play(check, tmux, folder, args):
    room = f"tavern@conference.{DOMAIN}"
    one = two = None
    with check("login over STARTTLS, the certificate verified"):
        one = Poezio(tmux, folder, args, "one", args.user)
        one.see("Authentication success|Online|Your JID is")
        two = Poezio(tmux, folder, args, "two", args.peer)
        two.see("Authentication success|Online|Your JID is")
    if check.failed:
        return
    with check("a room is made, entered by another, and both are heard"):
        one.say(f"/join {room}/{args.user}")
        one.see(rf"{args.user} .*joined the (room|chatroom)|You \({args.user}\)")
        # It leaves a new room closed until its owner has seen the form: Ctrl-Y is yes.
        one.say("/configure")
        one.see("Ctrl.?-?[yY]")
        one.tmux("send-keys", "-t", one.name, "C-y")
        time.sleep(1)
        two.say(f"/join {room}/{args.peer}")
        one.see(rf"{args.peer}.* joined")
        one.say("a plague on both your houses")
        two.see("a plague on both your houses")
        two.say("ask for me tomorrow ♥")
        one.see("ask for me tomorrow ♥")
    with check("a subject is seen by both"):
        one.say("/subject Verona at night")
        two.see("Verona at night")
    for screen in filter(None, (one, two)):
        screen.say("/quit")


if __name__ == "__main__":
    terminal.main(play, "poezio")
