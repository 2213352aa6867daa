package link

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A group's IPv4 network is chosen by its owner, and may be the one that another link of this machine is in, now or an hour
// later: Android's owners all use the same. Linux would then answer over the older of the two links, or send the user's own
// traffic into the group. So a group's network never competes with others: its address has no route of its own, its network
// is in a routing table for what is sent from that address or by sockets that are bound to the link, and the main table has it
// with a metric that gives way to everything, and only while nothing else overlaps.
const (
	rulePriority  = 7421       // before the main table, after the local one
	tableBase     = 7421 << 16 // the table's number is this and the lower half of the ifindex
	yieldMetric   = 20000      // more than NetworkManager, systemd-networkd and dhcpcd give to any link
	tableIndexMax = 0xffff
)

// private is the routing of one IPv4 address of a group.
type private struct {
	index  int
	ifname string // when the rules were made
	prefix netip.Prefix
}

func (p private) table() int { return tableBase | p.index&tableIndexMax }

// rules send to the table what belongs to the group.
func (p private) rules() []*netlink.Rule {
	from, bound := netlink.NewRule(), netlink.NewRule()
	from.Src = ipNet(netip.PrefixFrom(p.prefix.Addr(), 32))
	bound.OifName = p.ifname
	for _, r := range []*netlink.Rule{from, bound} {
		r.Family, r.Priority, r.Table = unix.AF_INET, rulePriority, p.table()
	}
	return []*netlink.Rule{from, bound}
}

func (p private) route(table, metric int) *netlink.Route {
	return &netlink.Route{LinkIndex: p.index, Dst: ipNet(p.prefix.Masked()), Src: p.prefix.Addr().AsSlice(), Scope: unix.RT_SCOPE_LINK,
		Table: table, Priority: metric, Protocol: unix.RTPROT_STATIC}
}

// ensure makes the rules and routes that are missing. The address must be on the link, and the link up.
func (p private) ensure() error {
	if err := netlink.RouteReplace(p.route(p.table(), 0)); err != nil {
		return err
	}
	ruled := true
	for _, r := range p.rules() {
		err := netlink.RuleAdd(r)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			ruled = false // a kernel without policy routing has only the main table
			break
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	others, err := networks(p.index)
	if err != nil {
		return err
	}
	overlaps := slices.ContainsFunc(others, p.prefix.Masked().Overlaps)
	if ruled && overlaps {
		return unless(netlink.RouteDel(p.route(unix.RT_TABLE_MAIN, yieldMetric)), unix.ESRCH)
	}
	return netlink.RouteReplace(p.route(unix.RT_TABLE_MAIN, yieldMetric))
}

// remove takes everything away. Rules outlive the link; routes do not.
func (p private) remove() error {
	var errs []error
	for _, r := range p.rules() {
		errs = append(errs, unless(netlink.RuleDel(r), unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT))
	}
	for _, r := range []*netlink.Route{p.route(p.table(), 0), p.route(unix.RT_TABLE_MAIN, yieldMetric)} {
		errs = append(errs, unlessGone(unless(netlink.RouteDel(r), unix.ESRCH)))
	}
	return errors.Join(errs...)
}

// unless returns nil when err is one of those that mean that there was nothing to do.
func unless(err error, harmless ...error) error {
	if slices.ContainsFunc(harmless, func(h error) bool { return errors.Is(err, h) }) {
		return nil
	}
	return err
}
