# What rc.common, procd and UCI give an init script of OpenWrt, as far as ours uses it. Each call of procd's becomes a
# line of $CALLS. UCI files are read by a reader of our own: `config`, `option` and `list`, quoted or not.

reset_cb() {
	config_cb() { return 0; }
	option_cb() { return 0; }
	list_cb() { return 0; }
}
reset_cb

config_load() {
	values=
	while IFS= read -r line; do
		eval "set -- $(printf '%s' "$line" | sed 's/^[[:space:]]*#.*//')"
		case "$1" in
		config)
			current="$3"
			config_cb "$2" "$3"
			;;
		option)
			eval "value_${current}_$2=\$3"
			option_cb "$2" "$3"
			;;
		list) list_cb "$2" "$3" ;;
		esac
	done <"$UCI/$1"
	config_cb
}

config_get() {
	eval "$1=\"\${value_$2_$3:-\$4}\""
}

config_get_bool() {
	config_get "$@"
	eval "case \"\$$1\" in 1 | on | true | yes | enabled) $1=1 ;; *) $1=0 ;; esac"
}

for call in procd_open_instance procd_set_param procd_close_instance procd_open_data procd_close_data procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_reload_trigger procd_set_config_changed json_add_array \
	json_add_object json_add_string json_close_object json_close_array chown; do
	eval "$call() { echo \"$call\${*:+ \$*}\" >>\"\$CALLS\"; }"
done
