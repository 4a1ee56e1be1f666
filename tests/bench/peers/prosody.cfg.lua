-- The modules of the other servers, and no limits.
run_as_root = true
daemonize = false
pidfile = "@FOLDER@/prosody.pid"
data_path = "@FOLDER@/data"
certificates = "@FOLDER@"
interfaces = { "127.0.0.1" }
c2s_ports = { @PLAIN@ }
c2s_direct_tls_ports = { @TLS@ }
s2s_ports = { }
http_ports = { }
https_ports = { }
c2s_require_encryption = true
authentication = "internal_hashed"
password_hash = "SHA-256"
default_iteration_count = 4096
storage = "internal"
modules_enabled = { "roster", "saslauth", "tls", "disco", "carbons", "ping", "offline", "smacks", "register_ibr" }
modules_disabled = { "s2s" }
allow_registration = true
smacks_max_unacked_stanzas = 500
log = { { levels = { min = "warn" }, to = "console" } }
ssl = { protocol = "tlsv1_3", certificate = "@FOLDER@/localhost.crt", key = "@FOLDER@/localhost.key" }
limits = { }
network_backend = "epoll"
network_settings = { nodelay = true }

VirtualHost "localhost"

Component "conference.localhost" "muc"
    restrict_room_creation = false
    muc_room_default_persistent = true
