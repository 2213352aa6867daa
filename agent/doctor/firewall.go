package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/godbus/dbus/v5"

	"nigh/link"
)

const (
	firewalldName = "org.fedoraproject.FirewallD1"
	firewalldZone = firewalldName + ".zone"
	firewalldPath = "/org/fedoraproject/FirewallD1"
)

// barrier is what keeps devices from beginning something with us on a link.
type barrier struct {
	name string // "ufw", or "firewalld (zone public)"
	fix  string
	sure bool // read from its rules; else only that it is on
	udp  bool // it keeps mDNS out, and lets sessions in
}

// firewall puts together what firewalls say of themselves, what their rules say, and what devices found that dialled us back.
// Only the last is proof.
func firewall(ctx context.Context, c Config, links []link.Link) []Check {
	rules, err := readRules(ctx)
	if err != nil {
		rules = nil // no rights, or no program nft: nobody has rules then but by other means
	}
	zones := askFirewalld(ctx, c)
	doubt := Check{}
	for _, l := range links {
		b := zones.barrier(l.Name, c.Port)
		if b == nil {
			b = ufwBarrier(c, rules, l)
		}
		if b == nil {
			b = nftBarrier(c, rules, l, zones != nil)
		}
		check := weigh(l.Name, b, outcome(c.DialBack, l.Name))
		switch {
		case check.State == Warn && (b == nil || b.sure || outcome(c.DialBack, l.Name).Outcome != ""):
			return []Check{check}
		case check.State == Warn && doubt.ID == "":
			doubt = check
		}
	}
	if doubt.ID != "" {
		return []Check{doubt}
	}
	cause := "No firewall is seen here."
	switch {
	case slices.ContainsFunc(c.DialBack, func(d DialBack) bool { return d.Outcome == DialOpen }):
		cause = "Other devices can connect to this one: some did."
	case zones != nil:
		cause = "firewalld lets nigh through on the links in use."
	case ufwOn(c.etc):
		cause = "ufw lets nigh through."
	case rules != nil:
		cause = "No firewall rule keeps nigh out."
	}
	return []Check{{"firewall", OK, cause, ""}}
}

// outcome picks what counts of the dial backs on a link: one that got through proves that it is open.
func outcome(all []DialBack, ifname string) DialBack {
	var bad DialBack
	for _, d := range all {
		switch {
		case d.Ifname != ifname:
		case d.Outcome == DialOpen:
			return d
		case d.Outcome == DialRefused || d.Outcome == DialRejected || d.Outcome == DialSilent:
			bad = d
		}
	}
	return bad
}

// weigh makes a check of a barrier, nil when none is seen, and of a dial back, empty when there was none.
func weigh(ifname string, b *barrier, d DialBack) Check {
	check := func(cause, fix string) Check { return Check{"firewall", Warn, cause, fix} }
	peer := shown(d.Peer)
	switch {
	case b == nil && (d.Outcome == "" || d.Outcome == DialOpen):
		return Check{ID: "firewall", State: OK}
	case b != nil && b.udp:
		return check(fmt.Sprintf("%s keeps discovery (UDP port 5353) out on %s: other devices are not found there.", b.name, ifname), b.fix)
	case d.Outcome == DialOpen:
		return Check{ID: "firewall", State: OK}
	case b == nil:
		return check(fmt.Sprintf("%s on %s, and no firewall is seen here: the network may keep its devices apart.", symptom(peer, d.Outcome), ifname),
			"Use another network, a cable or Wi-Fi Direct; this device can still begin connections.")
	case d.Outcome != "":
		return check(fmt.Sprintf("%s on %s: %s keeps it out. This device can still begin connections.", symptom(peer, d.Outcome), ifname, b.name), b.fix)
	case b.sure:
		return check(fmt.Sprintf("%s keeps other devices from connecting to this one on %s; this one can still connect to them.", b.name, ifname), b.fix)
	}
	return check(fmt.Sprintf("%s is on and may keep other devices from connecting to this one on %s; this one can still connect to them.", b.name, ifname), b.fix)
}

// symptom says what a device met that dialled us back.
func symptom(peer, outcome string) string {
	switch outcome {
	case DialRefused:
		return peer + " was refused by this device"
	case DialRejected:
		return peer + " was turned away from this device"
	}
	return peer + " got no answer from this device"
}

// shown makes the name of another device, which may be hostile, fit to be read.
func shown(name string) string {
	const most = 40
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(name, "?"))
	if r := []rune(name); len(r) > most {
		name = string(r[:most])
	}
	if name == "" {
		return "Another device"
	}
	return name
}

// arrivals are the packets that begin what others do with us.
func arrivals(l link.Link, port uint16) (sessions, discovery []packet) {
	for _, p := range l.Prefixes {
		v6 := p.Addr().Is6()
		group := "224.0.0.251"
		if v6 {
			group = "ff02::fb"
		}
		s := packet{ifname: l.Name, proto: "tcp", port: int(port), v6: v6}
		if !slices.Contains(sessions, s) {
			sessions = append(sessions, s)
			discovery = append(discovery, packet{ifname: l.Name, proto: "udp", port: 5353, group: group, v6: v6})
		}
	}
	return sessions, discovery
}

// verdict gives the fate of the packet that fares best: one family that gets through is enough.
func (r *ruleset) verdict(packets []packet, except ...string) (fate, place) {
	best, where := fate(0), place{}
	for i, p := range packets {
		f, at := r.input(p, except...)
		if i == 0 || best.closed() && !f.closed() || !best.open() && f.open() {
			best, where = f, at
		}
	}
	return best, where
}

// nftBarrier looks for rules that are neither firewalld's nor ufw's.
func nftBarrier(c Config, rules *ruleset, l link.Link, firewalld bool) *barrier {
	if rules == nil {
		return nil
	}
	var except []string
	if firewalld {
		except = []string{"firewalld"} // it has spoken for itself
	}
	sessions, discovery := arrivals(l, c.Port)
	f, at := rules.verdict(sessions, except...)
	udp := false
	if !f.closed() {
		if f, at = rules.verdict(discovery, except...); !f.closed() {
			return nil
		}
		udp = true
	}
	name := fmt.Sprintf("nftables (table %s %s, chain %s)", at.Family, at.Table, at.Chain)
	fix := "sudo nft '" + nftRule(at, c.Port) + "', or: sudo nigh doctor --fix nftables"
	if at.Chain == "INPUT" && at.Family != "inet" { // as iptables-nft makes it
		name = "iptables (chain INPUT)"
		fix = fmt.Sprintf("sudo iptables -I INPUT -p tcp --dport %d -j ACCEPT, and the same with ip6tables, and with -p udp --dport 5353", c.Port)
	}
	return &barrier{name: name, fix: fix, sure: true, udp: udp}
}

// nftRule lets sessions and discovery in, before every other rule of a chain.
func nftRule(at place, port uint16) string {
	return fmt.Sprintf("insert rule %s %s %s meta l4proto { tcp, udp } th dport { %d, 5353 } accept comment %q", at.Family, at.Table, at.Chain, port, ownComment)
}

// zones is what firewalld says; nil when it does not run.
type zones struct {
	usual    string
	err      error
	of       func(ifname string) string
	services func(zone string) ([]string, error)
	ports    func(zone string) ([][]string, error)
}

// askFirewalld asks firewalld over D-Bus, as any user may. Rules that somebody added to it by hand are not seen.
func askFirewalld(ctx context.Context, c Config) *zones {
	conn, err := connect(ctx, c.Bus)
	if err != nil {
		return nil // no bus, no firewalld
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	// It could be started by a call, so the bus is asked first.
	on := false
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, firewalldName).Store(&on); err != nil || !on {
		return nil
	}
	object := conn.Object(firewalldName, firewalldPath)
	call := func(value any, method string, args ...any) error {
		return object.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...).Store(value)
	}
	z := &zones{
		services: func(zone string) (list []string, err error) {
			err = call(&list, firewalldZone+".getServices", zone)
			return list, err
		},
		ports: func(zone string) (list [][]string, err error) {
			err = call(&list, firewalldZone+".getPorts", zone)
			return list, err
		},
	}
	z.err = call(&z.usual, firewalldName+".getDefaultZone")
	z.of = func(ifname string) string {
		var zone string
		if err := call(&zone, firewalldZone+".getZoneOfInterface", ifname); err != nil || zone == "" {
			return z.usual
		}
		return zone
	}
	return z
}

// barrier tells whether firewalld keeps sessions out on a link.
func (z *zones) barrier(ifname string, port uint16) *barrier {
	if z == nil {
		return nil
	}
	const reload = " && sudo firewall-cmd --reload"
	if z.err != nil {
		return &barrier{name: "firewalld", fix: "sudo firewall-cmd --permanent --add-service=nigh" + reload}
	}
	zone := z.of(ifname)
	add := "--add-service=nigh"
	if port != defaultPort {
		add = fmt.Sprintf("--add-port=%d/tcp", port)
	}
	b := &barrier{name: "firewalld (zone " + zone + ")", fix: "sudo firewall-cmd --permanent --zone=" + zone + " " + add + reload}
	services, err := z.services(zone)
	if err != nil {
		return b
	}
	ports, err := z.ports(zone)
	if err != nil {
		return b
	}
	if lets(zone, services, ports, int(port)) {
		return nil
	}
	b.sure = true
	return b
}

// lets tells whether a zone lets TCP connections to our port in.
func lets(zone string, services []string, ports [][]string, port int) bool {
	if zone == "trusted" {
		return true
	}
	for _, s := range services {
		if s == "nigh" && port == defaultPort {
			return true
		}
	}
	for _, p := range ports {
		if len(p) != 2 || p[1] != "tcp" {
			continue
		}
		first, last, isRange := strings.Cut(p[0], "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.Atoi(first)
		high, err2 := strconv.Atoi(last)
		if err1 == nil && err2 == nil && low <= port && port <= high {
			return true
		}
	}
	return false
}

func connect(ctx context.Context, address string) (*dbus.Conn, error) {
	if address == "" {
		return dbus.ConnectSystemBus(dbus.WithContext(ctx))
	}
	return dbus.Connect(address, dbus.WithContext(ctx))
}
