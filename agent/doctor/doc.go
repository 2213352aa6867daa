// Package doctor finds out what keeps nigh from working on this machine, why, and what one thing to do about it. [Run] only
// looks: it changes nothing that lasts, starts nothing that stays and asks no other machine. [Remedies] are the changes that
// a person may have made.
//
// Run makes all checks at once, each with a time limit. Its own are about the agent, files, firewalls, other programs that manage
// links, and the clock; those of the radio and of links come from the packages wpa and link. The agent calls it for GET /v1/doctor,
// and the command line does when no agent runs; what an agent in its sandbox cannot see, [Beside] adds. [NewReport] puts together
// what a person may send to who mends nigh.
//
// # Checks
//
// State fail is kept for what stops everything: while a link or Wi-Fi Direct works, what the radio or a link lacks is a warn.
// A check whose subject this machine does not have (a Broadcom radio, systemd) is left out, and so are those that another one
// makes pointless (no Wi-Fi radio, so nothing about its modes).
//
//	usable            what works, in one line; fail: nothing can
//	agent             an agent runs and answers, of the same version
//	restarts          systemd did not have to start the service again
//	socket            this user may use the agent's socket, and others may not
//	config            the configuration can be read
//	state             the state folder can be used, by its owner alone
//	inbox             received files can be written, and there is space
//	clock             the clock was set since the machine was started
//	wifi-hw           the kernel sees a Wi-Fi radio
//	rfkill            it is switched on
//	country           a country is set, so that 5 GHz may be used
//	p2p-modes         it can be client and owner of a group
//	p2p-device        it has a P2P device, so that phones list this machine
//	combos            a group fits beside the interfaces that there are
//	channel           a group may be where the Wi-Fi connection is
//	brcm              no known fault of a Raspberry Pi's radio, its firmware and wpa_supplicant
//	owner             how much this device wants to own groups
//	bus               the D-Bus system bus answers
//	supplicant        wpa_supplicant runs, and iwd does not
//	supplicant-p2p    it was built with Wi-Fi Direct
//	supplicant-iface  it has the Wi-Fi interface
//	dbus-policy       the D-Bus policy lets calls and signals through
//	networkmanager    NetworkManager does not remove groups that it did not make
//	manager-conflict  no other program manages the links of groups
//	links             a network link on which devices can be found
//	ipv6-off          IPv6 is on
//	caps              the process may set up the links of groups
//	subnet            a free IPv4 subnet for groups, and none used twice
//	mdns              the mDNS port can be shared
//	firewall          other devices can begin a connection, and be found
//	foreign-dhcp      no other DHCP server on the links of groups
//	group-link        the links of groups are set as nigh set them
package doctor

// IDs are the stable words of all checks, in the order in which [Run] returns them.
var IDs = []string{
	"usable", "agent", "restarts", "socket", "config", "state", "inbox", "clock",
	"wifi-hw", "rfkill", "country", "p2p-modes", "p2p-device", "combos", "channel", "brcm", "owner",
	"bus", "supplicant", "supplicant-p2p", "supplicant-iface", "dbus-policy", "networkmanager", "manager-conflict",
	"links", "ipv6-off", "caps", "subnet", "mdns", "firewall", "foreign-dhcp", "group-link",
}
