# Commands such as `couplet user add` ask the server that runs, by the configuration that it runs with.
[ "$(uci -q get couplet.global.use_uci)" != 1 ] || export COUPLET_CONFIG=/var/etc/couplet.toml
