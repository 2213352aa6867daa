package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "fail"

	mdnsPort = 5353
	procMax  = 1 << 16 // processes looked at
)

// Diagnose looks for what keeps devices from finding and reaching each other over this machine's links, and changes
// nothing. It takes a few milliseconds. Checks about rights are about the calling process. The findings, always in this order:
//
//	link_usable        a link on which other devices can be looked for
//	link_ipv6          IPv6, which nigh uses between devices in a group
//	link_capabilities  the rights to set up a group link and serve DHCP on it
//	link_subnet        a free IPv4 subnet for a group, and none used twice
//	link_mdns          the mDNS port can be shared
//	link_firewall      firewalld and ufw, as far as visible without rights
func Diagnose(ctx context.Context) []Finding {
	links, err := read(nil)
	checks := []func() Finding{
		func() Finding { return checkUsable(links, err) },
		func() Finding { return checkIPv6("/proc") },
		func() Finding { return checkCapabilities("/proc") },
		func() Finding { return checkSubnet(links) },
		func() Finding { return checkMDNS(links) },
		func() Finding { return checkFirewall("/") },
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
	f := Finding{ID: "link_usable", State: stateOK}
	if err != nil {
		f.State, f.Cause, f.Fix = stateFail, "The network links cannot be read: "+err.Error()+".", "allow netlink sockets to this process"
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
		f.Fix = "plug in a cable or join a Wi-Fi network, or use Wi-Fi Direct"
	default:
		f.State, f.Cause, f.Fix = stateWarn, "This machine has no network card.", "add a network or Wi-Fi adapter"
	}
	return f
}

func checkIPv6(proc string) Finding {
	f := Finding{ID: "link_ipv6", State: stateOK, Cause: "IPv6 is on."}
	conf := filepath.Join(proc, "sys/net/ipv6/conf")
	if _, err := os.Stat(conf); errors.Is(err, fs.ErrNotExist) {
		f.State, f.Cause = stateWarn, "The kernel was started without IPv6; Wi-Fi Direct groups start slower and need IPv4."
		f.Fix = "remove ipv6.disable=1 from the kernel's command line"
		return f
	}
	for _, which := range []string{"all", "default"} {
		v, err := os.ReadFile(filepath.Join(conf, which, "disable_ipv6"))
		if err == nil && strings.TrimSpace(string(v)) == "1" {
			f.State, f.Cause = stateWarn, "IPv6 is turned off; Wi-Fi Direct groups start slower and need IPv4."
			f.Fix = "sudo sysctl net.ipv6.conf." + which + ".disable_ipv6=0"
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
	f := Finding{ID: "link_capabilities", State: stateOK, Cause: "This process may set up group links."}
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
		f.Fix = "run the agent as the system service: sudo systemctl enable --now nigh@$USER"
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
	f := Finding{ID: "link_subnet", State: stateOK}
	for i, a := range links {
		for _, b := range links[i+1:] {
			for _, p := range a.Prefixes {
				for _, q := range b.Prefixes {
					if a.Kind == Loopback || b.Kind == Loopback || a.Kind == Direct || b.Kind == Direct || p.Addr().IsLinkLocalUnicast() || p.IsSingleIP() || q.IsSingleIP() || !p.Overlaps(q) {
						continue
					}
					f.State = stateWarn
					f.Cause = fmt.Sprintf("%s and %s are both in %s; the system sends answers by one of them only.", a.Name, b.Name, p.Masked())
					f.Fix = "disconnect one of them, or give one another subnet"
					return f
				}
			}
		}
	}
	p, err := FreeSubnet()
	switch {
	case errors.Is(err, ErrNoSubnet):
		f.State, f.Cause = stateWarn, "All subnets for Wi-Fi Direct groups overlap networks of this machine; phones in a group get no address."
		f.Fix = "free one of 192.168.49.0/24 to 192.168.63.0/24 or 10.77.0.0/16 from routes, such as those of a VPN"
	case err != nil:
		f.State, f.Cause = stateWarn, "The routes cannot be read: "+err.Error()+"."
	default:
		f.Cause = "Wi-Fi Direct groups would use " + p.String() + "."
	}
	return f
}

// checkMDNS joins the mDNS group beside whoever else did.
func checkMDNS(links []Link) Finding {
	f := Finding{ID: "link_mdns", State: stateOK, Cause: "The mDNS port 5353 can be used."}
	err := joinMDNS(links)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		f.State, f.Cause = stateFail, "Another program holds the mDNS port 5353 for itself, so no device can be found on networks."
		f.Fix = "find it with: sudo ss -ulpn sport = :5353"
	case err != nil:
		f.State, f.Cause = stateFail, "The mDNS group cannot be joined: "+err.Error()+"."
		f.Fix = "allow multicast and UDP port 5353 to this process"
	}
	return f
}

func joinMDNS(links []Link) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, opt := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	group := [4]byte(net.IPv4(224, 0, 0, 251).To4())
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: mdnsPort, Addr: group}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	for _, l := range links {
		if !l.Usable {
			continue
		}
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(l.Index)}); err != nil {
			return fmt.Errorf("join on %s: %w", l.Name, err)
		}
	}
	return nil
}

// checkFirewall sees what anybody may see: ufw's switch, and that firewalld runs. Rules are readable by root only, so a rule
// for nigh that is already there shows as a warning all the same, worded as a possibility.
func checkFirewall(root string) Finding {
	f := Finding{ID: "link_firewall", State: stateOK, Cause: "Neither firewalld nor ufw is active."}
	// The service's own sandbox hides other users' processes, but not the control groups.
	_, err := os.Stat(filepath.Join(root, "sys/fs/cgroup/system.slice/firewalld.service"))
	switch {
	case err == nil || processNamed("firewalld", filepath.Join(root, "proc")):
		f.State, f.Cause = stateWarn, "firewalld is active and may keep other devices from connecting to this one; this one can still connect to them."
		f.Fix = "sudo firewall-cmd --permanent --add-service=nigh && sudo firewall-cmd --reload"
	case ufwEnabled(filepath.Join(root, "etc")):
		f.State, f.Cause = stateWarn, "ufw is active and may keep other devices from connecting to this one; this one can still connect to them."
		f.Fix = "sudo ufw allow Nigh"
	}
	return f
}

func ufwEnabled(etc string) bool {
	raw, err := os.ReadFile(filepath.Join(etc, "ufw/ufw.conf"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key == "ENABLED" {
			return strings.EqualFold(strings.Trim(value, `"'`), "yes")
		}
	}
	return false
}

func processNamed(program, proc string) bool {
	dir, err := os.Open(proc)
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(procMax)
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(proc, name, "comm"))
		if err == nil && strings.TrimSpace(string(comm)) == program {
			return true
		}
	}
	return false
}
