// Package policy reads what the admin of a machine allows its users' agents:
// /etc/nigh/policy.toml ([Path], design section 8). It is binding: a user's
// configuration can only be stricter.
//
//	name = "kiosk-3"              # what this device is called, whatever its user says
//	receive = false               # take nothing from anybody
//	direct = false                # no Wi-Fi Direct
//	pairing = false               # no device becomes trusted that is not yet
//	auto_accept = false           # every offer asks, whatever the user set
//	visibility = "trusted"        # at most: everyone, trusted or hidden
//	devices = ["7Q4K-M2XD-..."]   # only these, by their whole IDs
//	shares = ["/srv/public"]      # only these folders and what is in them may be shared
//	max_size = "2GB"              # most bytes of one offer that is taken
//	rate_up = "5MB/s"             # most bytes per second, of all transfers together ..
//	rate_down = "5MB/s"
//	device_rate_up = "1MB/s"      # .. and of those with one device
//	device_rate_down = "1MB/s"
//	transfers = 2                 # most at once
//	peers.max = 10                # most devices connected at once
//	user_hooks = false            # no command of the user's is run on events
//	hooks.on_received = ["/usr/local/sbin/sort-files"]  # the admin's own, run as the user
//
// What is left out is not restricted. Sizes and rates are such as 500MB or 1.5GiB.
//
// The file must be a regular one that root owns and that nobody else can write, in a
// folder of which the same is true; it must be readable for the user who runs nigh. A
// file that is not so, and one with a mistake in it, is an error and never ignored. No
// file is no policy.
//
// The package reads and checks; the agent enforces. It keeps no state, and all of it
// is safe for concurrent use.
package policy
