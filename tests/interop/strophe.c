/* libstrophe against a running server: login, roster, chat, stream management with resumption.
 *
 * Usage: strophe STARTTLS-PORT TLS-PORT CA-FILE DOMAIN USER PEER PASSWORD
 *
 * Prints one line for each check, as slix.py does. */

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <strophe.h>

#define WAIT_S 15

struct peer {
    xmpp_conn_t *conn;
    int fd, is_online, is_over;
    char jid[256], full[256], body[256], roster[256];
    int is_member, heard;
};

static xmpp_ctx_t *ctx;
static const char *ca, *password;
static int failed;

/* The function that libstrophe has for socket options is how a program gets at the socket. */
static struct peer *connecting;

static int on_socket(xmpp_conn_t *conn, void *sock)
{
    (void)conn;
    connecting->fd = *(int *)sock;
    return 0;
}

static void on_state(xmpp_conn_t *conn, xmpp_conn_event_t event, int error, xmpp_stream_error_t *stream_error,
                     void *data)
{
    struct peer *peer = data;
    (void)error;
    (void)stream_error;
    if (event == XMPP_CONN_CONNECT) {
        peer->is_online = xmpp_conn_is_secured(conn);
        snprintf(peer->full, sizeof peer->full, "%s", xmpp_conn_get_bound_jid(conn));
    } else {
        peer->is_online = 0;
        peer->is_over = 1;
    }
}

static int on_message(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *data)
{
    struct peer *peer = data;
    char *body = xmpp_message_get_body(stanza);
    (void)conn;
    if (body) {
        snprintf(peer->body, sizeof peer->body, "%s", body);
        peer->heard++;
        xmpp_free(ctx, body);
    }
    return 1;
}

static int on_roster(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *data)
{
    struct peer *peer = data;
    xmpp_stanza_t *query = xmpp_stanza_get_child_by_ns(stanza, XMPP_NS_ROSTER), *item;
    (void)conn;
    for (item = query ? xmpp_stanza_get_children(query) : NULL; item; item = xmpp_stanza_get_next(item)) {
        const char *jid = xmpp_stanza_get_attribute(item, "jid");
        peer->is_member |= jid && strcmp(jid, peer->roster) == 0;
    }
    return 0;
}

/* Runs the loop until *what is at least `least`. */
static int await(const int *what, int least)
{
    time_t end = time(NULL) + WAIT_S;
    while (*what < least && time(NULL) < end)
        xmpp_run_once(ctx, 20);
    return *what >= least;
}

static int check(int right, const char *name)
{
    printf("%s %s%s\n", right ? "ok" : "not ok", name, right ? "" : ": it did not happen");
    fflush(stdout);
    failed += !right;
    return right;
}

static int go(struct peer *peer, int port, long flags, xmpp_sm_state_t *before)
{
    peer->conn = xmpp_conn_new(ctx);
    peer->is_over = 0;
    connecting = peer;
    xmpp_conn_set_flags(peer->conn, flags);
    xmpp_conn_set_cafile(peer->conn, ca);
    xmpp_conn_set_jid(peer->conn, peer->jid);
    xmpp_conn_set_pass(peer->conn, password);
    xmpp_conn_set_sockopt_callback(peer->conn, on_socket);
    if (before && xmpp_conn_set_sm_state(peer->conn, before))
        return 0;
    xmpp_handler_add(peer->conn, on_message, NULL, "message", NULL, peer);
    if (xmpp_connect_client(peer->conn, "127.0.0.1", (unsigned short)port, on_state, peer) != XMPP_EOK)
        return 0;
    return await(&peer->is_online, 1);
}

static void say(struct peer *peer, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* Not as raw bytes: those are not counted. */
    xmpp_stanza_t *stanza = xmpp_stanza_new_from_string(ctx, text);
    xmpp_send(peer->conn, stanza);
    xmpp_stanza_release(stanza);
}

int main(int argc, char **argv)
{
    struct peer one = {0}, two = {0};
    char full[256];
    if (argc != 8)
        return 2;
    ca = argv[3];
    password = argv[7];
    signal(SIGPIPE, SIG_IGN); /* A program that cuts its own connection writes to it once more. */
    xmpp_initialize();
    ctx = xmpp_ctx_new(NULL, NULL);
    snprintf(one.jid, sizeof one.jid, "%s@%s", argv[5], argv[4]);
    snprintf(two.jid, sizeof two.jid, "%s@%s", argv[6], argv[4]);
    if (!check(go(&one, atoi(argv[1]), XMPP_CONN_FLAG_MANDATORY_TLS, NULL),
               "login over STARTTLS, the certificate verified"))
        return 1;
    if (!check(go(&two, atoi(argv[2]), XMPP_CONN_FLAG_LEGACY_SSL, NULL),
               "login over direct TLS, the certificate verified"))
        return 1;
    say(&one, "<presence/>");
    say(&two, "<presence/>");

    snprintf(one.roster, sizeof one.roster, "%s", two.jid);
    say(&one, "<iq type='set' id='r1'><query xmlns='jabber:iq:roster'><item jid='%s' name='Two'/></query></iq>",
        two.jid);
    xmpp_id_handler_add(one.conn, on_roster, "r2", &one);
    say(&one, "<iq type='get' id='r2'><query xmlns='jabber:iq:roster'/></iq>");
    check(await(&one.is_member, 1), "a contact is added, and in the roster");

    say(&one, "<message type='chat' to='%s'><body>hark</body></message>", two.jid);
    check(await(&two.heard, 1) && strcmp(two.body, "hark") == 0, "a message to a bare address");
    say(&two, "<message type='chat' to='%s'><body>who is there?</body></message>", one.full);
    check(await(&one.heard, 1) && strcmp(one.body, "who is there?") == 0, "a message to a full address");

    /* The connection is gone without a word. */
    snprintf(full, sizeof full, "%s", one.full);
    shutdown(one.fd, SHUT_RDWR);
    await(&one.is_over, 1);
    xmpp_sm_state_t *before = xmpp_conn_get_sm_state(one.conn);
    xmpp_conn_release(one.conn);
    one.heard = 0;
    for (int at = 0; at < 3; at++)
        say(&two, "<message type='chat' to='%s'><body>in the tunnel %d</body></message>", full, at);
    for (int at = 0; at < 10; at++)
        xmpp_run_once(ctx, 20);
    int back = before && go(&one, atoi(argv[1]), XMPP_CONN_FLAG_MANDATORY_TLS, before);
    check(back && strcmp(one.full, full) == 0 && await(&one.heard, 3) && strcmp(one.body, "in the tunnel 2") == 0
              && one.heard == 3,
          "a cut connection is resumed, and nothing is lost");
    say(&one, "<message type='chat' to='%s'><body>and out</body></message>", two.jid);
    check(await(&two.heard, 2) && strcmp(two.body, "and out") == 0, "a message after the resumption");

    xmpp_disconnect(one.conn);
    xmpp_disconnect(two.conn);
    check(await(&one.is_over, 1) && await(&two.is_over, 1), "both streams are closed");
    xmpp_conn_release(one.conn);
    xmpp_conn_release(two.conn);
    xmpp_ctx_free(ctx);
    xmpp_shutdown();
    return failed != 0;
}
