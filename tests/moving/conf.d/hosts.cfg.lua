VirtualHost "example.org"
	allow_registration = true;
	contact_info = { abuse = { "mailto:abuse@example.org", "xmpp:romeo@example.org" } }

VirtualHost("Example.com")
	modules_disabled = { "offline" }

Component "conference.example.org" "muc"
	restrict_room_creation = "admin"
	modules_enabled = { "muc_mam" }

Component ("irc.example.org")
	component_secret = "shared"

VirtualHost "off.example.org" { enabled = false }

Component "news.example.org" "pubsub"
	autocreate_on_publish = true
