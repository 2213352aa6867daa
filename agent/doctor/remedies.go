package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nigh/link"
	"nigh/systemd"
)

const sysctlFile = "/etc/sysctl.d/99-nigh.conf"

// Remedies lists all that there are. bus is the address of the bus to be told; "" = the system bus.
func Remedies(bus string) []*Remedy {
	tellBus := func(ctx context.Context) error { return reloadBus(ctx, bus) }
	all := []*Remedy{
		{
			Name: "networkmanager",
			Does: "Keeps NetworkManager from removing Wi-Fi Direct groups that it did not make, by a D-Bus policy.",
			Lost: "NetworkManager's own Wi-Fi Direct (screen casting, as by gnome-network-displays) stops working; its Wi-Fi connections do not change.",
			Path: "/etc/dbus-1/system.d/zz-nigh.conf", Text: systemd.KeepPolicy,
			reload: tellBus,
		},
		{
			Name: "networkmanager-groups",
			Does: "Has NetworkManager leave the links of Wi-Fi Direct groups alone.",
			Path: "/etc/NetworkManager/conf.d/90-nigh.conf", Text: systemd.NetworkManager,
			apply: [][]string{{"nmcli", "general", "reload", "conf"}}, after: [][]string{{"nmcli", "general", "reload", "conf"}},
		},
		{
			Name: "networkd",
			Does: "Has systemd-networkd leave the links of Wi-Fi Direct groups alone.",
			Path: "/etc/systemd/network/10-nigh-p2p.network", Text: systemd.Networkd,
			apply: [][]string{{"networkctl", "reload"}}, after: [][]string{{"networkctl", "reload"}},
		},
		{
			Name: "dhcpcd",
			Does: "Has dhcpcd leave the links of Wi-Fi Direct groups alone.",
			Path: "/etc/dhcpcd.conf", Text: "# Written by nigh doctor: the links of Wi-Fi Direct groups are addressed by nigh.\ndenyinterfaces p2p-*\n", before: true,
			apply: [][]string{{"dhcpcd", "-n"}}, after: [][]string{{"dhcpcd", "-n"}},
		},
		{
			Name: "dnsmasq",
			Does: "Has dnsmasq bind each link by itself and leave out those of Wi-Fi Direct groups, so that nigh can give phones addresses there.",
			Lost: "dnsmasq is started again, which interrupts it for a moment.",
			Path: "/etc/dnsmasq.d/nigh.conf", Text: "# Written by nigh doctor: the links of Wi-Fi Direct groups are served by nigh.\nbind-dynamic\nexcept-interface=p2p-*\n",
			apply: [][]string{{"dnsmasq", "--test"}, {"systemctl", "restart", "dnsmasq"}}, after: [][]string{{"systemctl", "restart", "dnsmasq"}},
		},
		{
			Name: "dbus-policy",
			Does: "Lets the service nigh@USER, by its group nigh, make Wi-Fi Direct calls to wpa_supplicant.",
			Lost: "The group nigh stays when it is taken back.",
			Path: "/etc/dbus-1/system.d/nigh.conf", Text: systemd.Policy,
			// The bus reads a new policy at once, and ignores one for a group that it cannot find.
			apply: [][]string{{"groupadd", "--force", "--system", "nigh"}, {"systemctl", "reload", "dbus"}}, after: [][]string{{"systemctl", "reload", "dbus"}},
		},
		{
			Name: "firewalld",
			Does: "Lets other devices connect to nigh, and find it, in firewalld's usual zone.",
			Path: "/etc/firewalld/services/nigh.xml", Text: systemd.FirewalldService,
			apply: [][]string{{"firewall-cmd", "--reload"}, {"firewall-cmd", "--permanent", "--add-service=nigh"}, {"firewall-cmd", "--reload"}},
			back:  [][]string{{"firewall-cmd", "--permanent", "--remove-service=nigh"}}, after: [][]string{{"firewall-cmd", "--reload"}},
		},
		{
			Name: "ufw",
			Does: "Lets other devices connect to nigh; ufw itself lets them find it.",
			Path: "/etc/ufw/applications.d/nigh", Text: systemd.Ufw,
			apply: [][]string{{"ufw", "allow", "Nigh"}}, back: [][]string{{"ufw", "delete", "allow", "Nigh"}},
		},
		{
			Name: "nftables",
			Does: "Lets other devices connect to nigh, and find it, by a rule before all others of the chain that keeps them out.",
			Lost: "It lasts until the rules are loaded anew, at the next start at the latest: to keep it, write it into /etc/nftables.conf.",
			look: lookRules, lookBack: lookOwnRules,
		},
		{
			Name:  "rfkill",
			Does:  "Switches the Wi-Fi radios on.",
			apply: [][]string{{"rfkill", "unblock", "wifi"}}, back: [][]string{{"rfkill", "block", "wifi"}},
		},
		{
			Name: "ipv6",
			Does: "Turns IPv6 on, now and at each start.",
			Lost: "Who turned it off had a reason: ask.",
			Path: sysctlFile, Text: "# Written by nigh doctor.\nnet.ipv6.conf.all.disable_ipv6 = 0\nnet.ipv6.conf.default.disable_ipv6 = 0\n",
			apply: [][]string{{"sysctl", "-p", sysctlFile}}, look: lookIPv6,
		},
	}
	for _, r := range all {
		r.journal = journalPath
	}
	return all
}

// lookIPv6 keeps what is set now.
func lookIPv6(_ context.Context, r *Remedy) error {
	r.after = nil
	for _, which := range []string{"all", "default"} {
		if v := strings.TrimSpace(readFile(filepath.Join("/proc/sys/net/ipv6/conf", which, "disable_ipv6"))); v == "0" || v == "1" {
			r.after = append(r.after, []string{"sysctl", "-w", "net.ipv6.conf." + which + ".disable_ipv6=" + v})
		}
	}
	if r.after == nil {
		return errors.New("the kernel was started without IPv6: remove ipv6.disable=1 from its command line")
	}
	return nil
}

// lookRules finds the chain that keeps devices out.
func lookRules(ctx context.Context, r *Remedy) error {
	rules, err := readRules(ctx)
	if err != nil {
		return err
	}
	networks := links(ctx)
	if networks.err != nil {
		return networks.err
	}
	for _, l := range networks.usable() {
		if at, ok := rules.blocking(l); ok {
			if at.Chain == "INPUT" && at.Family != "inet" {
				return errors.New("the rules are those of iptables: use the program that made them, or iptables itself")
			}
			r.apply = [][]string{{"nft", nftRule(at, defaultPort)}}
			return nil
		}
	}
	return errors.New("no rule of nftables keeps other devices out")
}

// lookOwnRules finds the rules of ours that are still there.
func lookOwnRules(ctx context.Context) ([][]string, error) {
	rules, err := readRules(ctx)
	if err != nil {
		return nil, err
	}
	var back [][]string
	for _, o := range rules.own {
		back = append(back, []string{"nft", "delete", "rule", o.Family, o.Table, o.Chain, "handle", strconv.Itoa(o.handle)})
	}
	return back, nil
}

// blocking gives the chain that keeps sessions or discovery out on a link.
func (r *ruleset) blocking(l link.Link) (place, bool) {
	sessions, discovery := arrivals(l, defaultPort)
	for _, packets := range [][]packet{sessions, discovery} {
		if f, at := r.verdict(packets); f.closed() {
			return at, true
		}
	}
	return place{}, false
}

// Find returns the remedy with a name.
func Find(all []*Remedy, name string) *Remedy {
	if i := slices.IndexFunc(all, func(r *Remedy) bool { return r.Name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// reloadBus has the bus read its policies again, as systemctl reload dbus does, with dbus-daemon and dbus-broker alike.
func reloadBus(ctx context.Context, address string) error {
	conn, err := connect(ctx, address)
	if err != nil {
		return fmt.Errorf("the bus cannot be told: %w", err)
	}
	defer conn.Close()
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ReloadConfig", 0).Err; err != nil {
		return fmt.Errorf("the bus does not read its policies again: %w", err)
	}
	return nil
}
