/* gloox against a running server: login, then stream compression (XEP-0138) with the zlib of everybody else.
 *
 * Usage: gloox PORT CA-FILE DOMAIN USER PASSWORD
 *
 * Prints one line for each check, as slix.py does. */

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include <gloox/client.h>
#include <gloox/connectionlistener.h>
#include <gloox/gloox.h>
#include <gloox/loghandler.h>
#include <gloox/message.h>
#include <gloox/messagehandler.h>

using namespace gloox;

namespace {

const int WAIT_S = 15;
const int MESSAGES = 50;
const size_t LONG = 60000;

class Journey : public ConnectionListener, public MessageHandler, public LogHandler {
public:
    bool online = false, over = false, secure = false, compressed = false;
    int heard = 0, failed = 0;
    size_t longest = 0;

    void onConnect() override { online = true; }
    void onDisconnect(ConnectionError) override { over = true; }
    bool onTLSConnect(const CertInfo &info) override
    {
        // It finds no signer of a certificate that has signed itself, though it is among those that it believes.
        secure = (info.status & ~(CertInvalid | CertSignerUnknown)) == CertOk;
        return true;
    }
    void handleMessage(const Message &message, MessageSession *) override
    {
        heard++;
        longest = std::max(longest, message.body().size());
    }
    void handleLog(LogLevel, LogArea area, const std::string &text) override
    {
        compressed |= area == LogAreaXmlIncoming && text.find("<compressed") != std::string::npos;
        if (getenv("GLOOX_DEBUG"))
            fprintf(stderr, "%d %s\n", area, text.c_str());
    }
    void check(bool right, const char *name)
    {
        printf("%s %s%s\n", right ? "ok" : "not ok", name, right ? "" : ": it did not happen");
        fflush(stdout);
        failed += !right;
    }
};

}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    Journey journey;
    JID jid(std::string(argv[4]) + "@" + argv[3] + "/gloox");
    Client client(jid, argv[5]);
    client.setServer(argv[3]);
    client.setPort(atoi(argv[1]));
    client.setTls(TLSRequired);
    // With SCRAM it would bind to tls-unique, which TLS 1.3 does not have (RFC 9266), or say that the server binds to
    // nothing, which is refused as an attack (RFC 5802 section 6).
    client.setSASLMechanisms(SaslMechPlain);
    client.setCompression(true);
    client.setCACerts({argv[2]});
    client.registerConnectionListener(&journey);
    client.registerMessageHandler(&journey);
    client.logInstance().registerLogHandler(LogLevelDebug, LogAreaAll, &journey);
    if (!client.connect(false)) {
        journey.check(false, "a connection");
        return 1;
    }
    auto await = [&](auto done) {
        for (time_t end = time(nullptr) + WAIT_S; !done() && !journey.over && time(nullptr) < end;)
            client.recv(20000);
        return done();
    };
    journey.check(await([&] { return journey.online; }) && journey.secure, "login over STARTTLS");
    journey.check(journey.compressed, "the stream is compressed");
    for (int at = 0; at < MESSAGES; at++)
        client.send(Message(Message::Chat, client.jid(), "number " + std::to_string(at)));
    client.send(Message(Message::Chat, client.jid(), std::string(LONG, 'x')));
    journey.check(await([&] { return journey.heard > MESSAGES; }) && journey.longest == LONG,
                  "short and long messages there and back");
    client.disconnect();
    return journey.failed != 0;
}
