#!/usr/bin/env lua
-- A configuration with a bit of everything.
--[[ A long
comment. ]]
gc_settings = { mode = "incremental"; threshold = 150 }
admins = { "romeo@example.org" }
plugin_paths = { "/usr/local/lib/prosody/modules" }
modules_enabled = {
	"roster"; "saslauth"; "tls", "dialback";
	"carbons"; -- Keep multiple online clients in sync
	os.getenv("MODE") == "high" and "statistics" or nil;
}
interfaces = { "127.0.0.1", "::1" }
c2s_ports = { 5222 }
c2s_timeout = 60 * 5
s2s_secure_auth = true
limits = {
	c2s = { rate = "10kb/s"; burst = "2s" };
	s2sin = { rate = "30kb/s" };
}
memory_limit = 64 * 1024 * 1024
memory_warning_threshold = 0.8
log = {
	info = "/var/log/prosody/prosody.log";
	{ levels = { "error" }; to = "syslog"; };
}
welcome_message = [[Hello $username,
welcome to $host.]]
certificates = "certs"
no_such_option = 1
statistics_config = { retain_for = 3600; statsd_server = "127.0.0.1" }
local secret = "x" .. os.getenv("HOME")
if os.getenv("X") then daemonize = true end
motd_text = "Hello " .. name
Include "conf.d/missing.cfg.lua"
Include "conf.d/*.cfg.lua"
