package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"

	mdnsPort = 5353
)

var (
	mdnsGroup4 = netip.MustParseAddr("224.0.0.251").As4()
	mdnsGroup6 = netip.MustParseAddr("ff02::fb").As16()
)

// Diagnose looks for what keeps devices from finding and reaching each other over this machine's links, and changes
// nothing. It takes a few milliseconds. Checks about rights are about the calling process. The findings, always in this order:
//
//	links         a link on which other devices can be looked for
//	ipv6-off      IPv6, which nigh uses between devices in a group
//	caps          the rights to set up a group link and serve DHCP on it
//	subnet        a free IPv4 subnet for a group, and none used twice
//	mdns          the mDNS port can be shared
//	foreign-dhcp  nobody else serves DHCP on every link, nor on a group's
//	group-link    the links of groups have the settings that nigh gives them
func Diagnose(ctx context.Context) []Finding {
	links, err := read(nil)
	checks := []func() Finding{
		func() Finding { return checkUsable(links, err) },
		func() Finding { return checkIPv6("/proc") },
		func() Finding { return checkCapabilities("/proc") },
		func() Finding { return checkSubnet(links) },
		func() Finding { return checkMDNS(links) },
		func() Finding { return checkDHCP(links) },
		func() Finding { return checkGroupLinks(links, "/proc") },
	}
	out := make([]Finding, 0, len(checks))
	for _, check := range checks {
		if ctx.Err() != nil {
			break
		}
		out = append(out, check())
	}
	return out
}

func checkUsable(links []Link, err error) Finding {
	f := Finding{ID: "links", State: stateOK}
	if err != nil {
		f.State, f.Cause, f.Fix = stateFail, "The network links cannot be read: "+err.Error()+".", "Allow netlink sockets to this process."
		return f
	}
	var usable, not []string
	for _, l := range links {
		switch {
		case l.Usable:
			usable = append(usable, l.Name)
		case l.Kind == Ethernet || l.Kind == WiFi || l.Kind == Direct:
			not = append(not, l.Name+": "+l.Why)
		}
	}
	switch {
	case len(usable) > 0:
		f.Cause = "Devices can be found on " + strings.Join(usable, ", ") + "."
	case len(not) > 0:
		f.State, f.Cause = stateWarn, "No network is connected ("+strings.Join(not, "; ")+"), so only Wi-Fi Direct can find devices."
		f.Fix = "Plug in a cable or join a Wi-Fi network, or use Wi-Fi Direct."
	default:
		f.State, f.Cause, f.Fix = stateWarn, "This machine has no network card.", "Add a network or Wi-Fi adapter."
	}
	return f
}

func checkIPv6(proc string) Finding {
	f := Finding{ID: "ipv6-off", State: stateOK, Cause: "IPv6 is on."}
	conf := filepath.Join(proc, "sys/net/ipv6/conf")
	if _, err := os.Stat(conf); errors.Is(err, fs.ErrNotExist) {
		f.State, f.Cause = stateWarn, "The kernel was started without IPv6; Wi-Fi Direct groups start slower and need IPv4."
		f.Fix = "Remove ipv6.disable=1 from the kernel's command line."
		return f
	}
	for _, which := range []string{"all", "default"} {
		v, err := os.ReadFile(filepath.Join(conf, which, "disable_ipv6"))
		if err == nil && strings.TrimSpace(string(v)) == "1" {
			f.State, f.Cause = stateWarn, "IPv6 is turned off; Wi-Fi Direct groups start slower and need IPv4."
			f.Fix = "sudo sysctl -w net.ipv6.conf." + which + ".disable_ipv6=0, or for good: sudo nigh doctor --fix ipv6"
			break
		}
	}
	return f
}

var capabilities = []struct {
	bit  uint
	name string
}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"}}

func checkCapabilities(proc string) Finding {
	f := Finding{ID: "caps", State: stateOK, Cause: "This process may set up group links."}
	effective, err := capEff(proc)
	if err != nil {
		f.State, f.Cause = stateWarn, "The rights of this process cannot be read: "+err.Error()+"."
		return f
	}
	var missing []string
	for _, c := range capabilities {
		if effective&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		f.State = stateWarn
		f.Cause = "This process may not set up the link of a Wi-Fi Direct group (it lacks " + strings.Join(missing, ", ") + "); networks that are connected already work."
		f.Fix = "Run the agent as the system service: sudo systemctl enable --now nigh@$USER"
	}
	return f
}

func capEff(proc string) (uint64, error) {
	f, err := os.Open(filepath.Join(proc, "self/status"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if hex, ok := strings.CutPrefix(scan.Text(), "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return 0, errors.New("no CapEff in status")
}

// checkSubnet also finds two links in one subnet: answers then leave by the older one, and connections hang. A group's subnet
// has a routing table of its own, and does no harm.
func checkSubnet(links []Link) Finding {
	f := Finding{ID: "subnet", State: stateOK}
	for i, a := range links {
		for _, b := range links[i+1:] {
			for _, p := range a.Prefixes {
				for _, q := range b.Prefixes {
					if a.Kind == Loopback || b.Kind == Loopback || a.Kind == Direct || b.Kind == Direct || p.Addr().IsLinkLocalUnicast() || p.IsSingleIP() || q.IsSingleIP() || !p.Overlaps(q) {
						continue
					}
					f.State = stateWarn
					f.Cause = fmt.Sprintf("%s and %s are both in %s; the system sends answers by one of them only.", a.Name, b.Name, p.Masked())
					f.Fix = "Disconnect one of them, or give one another subnet."
					return f
				}
			}
		}
	}
	p, err := FreeSubnet()
	switch {
	case errors.Is(err, ErrNoSubnet):
		f.State, f.Cause = stateWarn, "All subnets for Wi-Fi Direct groups overlap networks of this machine; phones in a group get no address."
		f.Fix = "Free one of 192.168.49.0/24 to 192.168.63.0/24 or 10.77.0.0/16 from routes, such as those of a VPN."
	case err != nil:
		f.State, f.Cause = stateWarn, "The routes cannot be read: "+err.Error()+"."
	default:
		f.Cause = "Wi-Fi Direct groups would use " + p.String() + "."
	}
	return f
}

// checkMDNS joins the mDNS group beside whoever else did.
func checkMDNS(links []Link) Finding {
	f := Finding{ID: "mdns", State: stateOK, Cause: "The mDNS port 5353 can be used."}
	err := errors.Join(joinMDNS(links, false), joinMDNS(links, true))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		who := "Another program"
		if held := held(mdnsPort); len(held) > 0 {
			who = held[0].String()
		}
		f.State, f.Cause = stateFail, who+" holds the mDNS port 5353 for itself, so no device can be found on networks."
		f.Fix = "Stop it, or have it share the port (SO_REUSEADDR); find it with: sudo ss -ulpn sport = :5353"
	case err != nil:
		f.State, f.Cause = stateFail, "The mDNS group cannot be joined: "+err.Error()+"."
		f.Fix = "Allow multicast and UDP port 5353 to this process."
	}
	return f
}

// joinMDNS does what discovery does. A kernel without IPv6 has nothing to join there.
func joinMDNS(links []Link, v6 bool) error {
	family, level, address := unix.AF_INET, unix.IPPROTO_IP, unix.Sockaddr(&unix.SockaddrInet4{Port: mdnsPort, Addr: mdnsGroup4})
	if v6 {
		family, level, address = unix.AF_INET6, unix.IPPROTO_IPV6, &unix.SockaddrInet6{Port: mdnsPort}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if errors.Is(err, unix.EAFNOSUPPORT) && v6 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if v6 {
		if err := unix.SetsockoptInt(fd, level, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, address); err != nil {
		return os.NewSyscallError("bind", err)
	}
	for _, l := range links {
		if !l.Usable || !slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }) {
			continue
		}
		if v6 {
			err = unix.SetsockoptIPv6Mreq(fd, level, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: mdnsGroup6, Interface: uint32(l.Index)})
		} else {
			err = unix.SetsockoptIPMreqn(fd, level, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: mdnsGroup4, Ifindex: int32(l.Index)})
		}
		if err != nil {
			return fmt.Errorf("join on %s: %w", l.Name, err)
		}
	}
	return nil
}

// groupSettings are those of group.go that others may undo, and what comes of it.
var groupSettings = []struct{ family, key, want, harm string }{
	{"ipv6", "accept_ra", "0", "a member of the group could make itself this machine's router"},
	{"ipv6", "forwarding", "0", "members of the group could reach other networks of this machine"},
	{"ipv4", "forwarding", "0", "members of the group could reach other networks of this machine"},
}

// checkGroupLinks reads back what EnsureGroup sets. rp_filter is left as it is: every packet of nigh in a group comes from the
// subnet of the group, or from fe80::/10, which it does not look at.
func checkGroupLinks(links []Link, proc string) Finding {
	f := Finding{ID: "group-link", State: stateOK, Cause: "There is no Wi-Fi Direct group now."}
	for _, l := range links {
		if l.Kind != Direct || !l.Up {
			continue
		}
		f.Cause = "The links of Wi-Fi Direct groups are set as they should be."
		for _, s := range groupSettings {
			raw, err := os.ReadFile(filepath.Join(proc, "sys/net", s.family, "conf", l.Name, s.key))
			if err != nil || strings.TrimSpace(string(raw)) == s.want {
				continue
			}
			f.State = stateWarn
			f.Cause = fmt.Sprintf("%s of %s is %s and nigh could not set it: %s.", s.family+" "+s.key, l.Name, strings.TrimSpace(string(raw)), s.harm)
			f.Fix = "See that the service has ReadWritePaths=/proc/sys/net and CAP_NET_ADMIN (systemctl cat nigh@$USER), and that no other program sets it."
			return f
		}
	}
	return f
}
