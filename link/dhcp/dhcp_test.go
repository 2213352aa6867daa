package dhcp

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	epoch = time.Now() // any time: only differences count
	mac1  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	mac2  = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	mac3  = net.HardwareAddr{2, 0, 0, 0, 0, 3}
)

func config() Config {
	return Config{
		Ifname: "grp0", Subnet: netip.MustParsePrefix("192.168.49.1/24"),
		First: netip.MustParseAddr("192.168.49.10"), Last: netip.MustParseAddr("192.168.49.11"),
	}
}

func server(t testing.TB, c Config) *Server {
	t.Helper()
	s, err := NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(t testing.TB, kind dhcpv4.MessageType, mac net.HardwareAddr, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(mac)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func asking(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func of(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func having(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	offer    = dhcpv4.MessageTypeOffer
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
)

// from gives a message a sender other than the client itself.
func from(a string, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	m.ServerHostName = a // a field that no part of the server looks at
	return m
}

// sender is what the socket would say about who sent a message.
func sender(m *dhcpv4.DHCPv4) netip.Addr {
	if a, err := netip.ParseAddr(m.ServerHostName); err == nil {
		return a
	}
	if a, ok := ip4(m.ClientIPAddr); ok {
		return a
	}
	return netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// A conversation with the server: each step is one request and what must come back.
func TestServerAnswers(t *testing.T) {
	rapid := dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
	type step struct {
		what   string
		at     time.Duration
		m      *dhcpv4.DHCPv4
		want   dhcpv4.MessageType // none: no answer
		addr   string             // "" = any
		stored bool
	}
	m := func(kind dhcpv4.MessageType, mac net.HardwareAddr, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		return message(t, kind, mac, mods...)
	}
	for name, steps := range map[string][]step{
		"usual": {
			{"discover", 0, m(discover, mac1, asking("192.168.49.11")), offer, "192.168.49.11", false},
			{"request", 0, m(request, mac1, asking("192.168.49.11"), of("192.168.49.1")), ack, "192.168.49.11", true},
			{"renew", leaseTime / 2, m(request, mac1, having("192.168.49.11")), ack, "192.168.49.11", false},
			{"the other address", leaseTime, m(discover, mac2, asking("192.168.49.11")), offer, "192.168.49.10", false},
			{"nothing left", leaseTime, m(discover, mac3), 0, "", false},
			{"the offer was let go", leaseTime + 11*time.Second, m(discover, mac3), offer, "192.168.49.10", false},
			{"the lease ended", 3 * leaseTime, m(discover, mac2), offer, "", false},
		},
		"rapid commit": {
			{"discover", 0, m(discover, mac1, rapid), ack, "", true},
		},
		"reboot": {
			{"foreign network", 0, m(request, mac1, asking("10.0.0.5")), nak, "0.0.0.0", false},
			{"our own address", 0, m(request, mac1, asking("192.168.49.1")), nak, "0.0.0.0", false},
			{"outside the pool", 0, m(request, mac1, asking("192.168.49.200")), nak, "0.0.0.0", false},
			{"a free one", 0, m(request, mac1, asking("192.168.49.10")), ack, "192.168.49.10", true},
			{"somebody else's", 0, m(request, mac2, asking("192.168.49.10")), nak, "0.0.0.0", false},
			{"no address", 0, m(request, mac2), nak, "0.0.0.0", false},
		},
		"another server": {
			{"discover", 0, m(discover, mac1, asking("192.168.49.10")), offer, "192.168.49.10", false},
			{"its offer was taken", 0, m(request, mac1, asking("10.0.0.5"), of("10.0.0.1")), 0, "", false},
			{"ours is free again", 0, m(discover, mac2, asking("192.168.49.10")), offer, "192.168.49.10", false},
		},
		"decline": {
			{"lease", 0, m(request, mac1, asking("192.168.49.10")), ack, "192.168.49.10", true},
			{"by another", 0, m(dhcpv4.MessageTypeDecline, mac2, asking("192.168.49.10")), 0, "", false},
			{"still its own", 0, m(discover, mac1), offer, "192.168.49.10", false},
			{"by its own", 0, m(dhcpv4.MessageTypeDecline, mac1, asking("192.168.49.10")), 0, "", true},
			{"not offered again", 0, m(discover, mac1, asking("192.168.49.10")), offer, "192.168.49.11", false},
			{"until ten minutes later", 11 * time.Minute, m(discover, mac2, asking("192.168.49.10")), offer, "192.168.49.10", false},
		},
		"release": {
			{"lease", 0, m(request, mac1, asking("192.168.49.10")), ack, "192.168.49.10", true},
			{"release", 0, m(dhcpv4.MessageTypeRelease, mac1, having("192.168.49.10")), 0, "", false},
			{"remembered while there is another", 0, m(discover, mac2), offer, "192.168.49.11", false},
			{"given to the next", time.Second, m(discover, mac3), offer, "192.168.49.10", false},
		},
		"inform": {
			{"inform", 0, m(dhcpv4.MessageTypeInform, mac1, having("192.168.49.77")), ack, "0.0.0.0", false},
		},
		"refused": {
			{"relayed", 0, m(discover, mac1, dhcpv4.WithGatewayIP(net.IPv4(10, 0, 0, 1))), 0, "", false},
			{"not Ethernet", 0, m(discover, mac1, dhcpv4.WithHWType(32)), 0, "", false},
			{"long address", 0, m(discover, net.HardwareAddr{1, 2, 3, 4, 5, 6, 7, 8}), 0, "", false},
			{"no address at all", 0, m(discover, net.HardwareAddr{0, 0, 0, 0, 0, 0}), 0, "", false},
			{"a group's address", 0, m(discover, net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}), 0, "", false},
			{"an offer", 0, m(offer, mac1), 0, "", false},
		},
		"spoofed": {
			{"lease", 0, m(request, mac1, asking("192.168.49.10")), ack, "192.168.49.10", true},
			{"somebody's word that it is released", 0, from("192.168.49.11", m(dhcpv4.MessageTypeRelease, mac1, having("192.168.49.10"))), 0, "", false},
			{"released with another address", 0, m(dhcpv4.MessageTypeRelease, mac2, having("192.168.49.10")), 0, "", false},
			{"the lease of another", 0, m(request, mac2, having("192.168.49.10")), nak, "0.0.0.0", false},
			{"its own is still there", 0, m(request, mac1, having("192.168.49.10")), ack, "192.168.49.10", false},
			{"inform under another's address", 0, from("192.168.49.10", m(dhcpv4.MessageTypeInform, mac2, having("192.168.49.11"))), 0, "", false},
			{"inform from elsewhere", 0, m(dhcpv4.MessageTypeInform, mac2, having("10.0.0.7")), 0, "", false},
			{"another gets another", 0, m(discover, mac2, asking("192.168.49.10")), offer, "192.168.49.11", false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, config())
			for _, st := range steps {
				r, stored := s.answer(epoch.Add(st.at), sender(st.m), st.m)
				var kind dhcpv4.MessageType
				addr := ""
				if r != nil {
					kind, addr = r.MessageType(), r.YourIPAddr.String()
				}
				if kind != st.want || st.addr != "" && addr != st.addr || stored != st.stored {
					t.Fatalf("%s: %v %s, stored %v; want %v %s, %v", st.what, kind, addr, stored, st.want, st.addr, st.stored)
				}
			}
		})
	}
}

// A phone that is given a router or a DNS server sends its traffic to us.
func TestServerNamesNoRouter(t *testing.T) {
	s := server(t, config())
	for _, kind := range []dhcpv4.MessageType{discover, request} {
		for _, rapid := range []bool{false, true} {
			ask := message(t, kind, mac1, asking("192.168.49.10"), dhcpv4.WithRequestedOptions(
				dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionNTPServers, dhcpv4.GenericOptionCode(114), dhcpv4.GenericOptionCode(121)))
			ask.UpdateOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(1), []byte("port"))))
			want := []uint8{1, 51, 53, 54, 58, 59}
			if rapid {
				ask.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
				if kind == discover {
					want = append(want, 80)
				}
			}
			r, _ := s.answer(epoch, netip.Addr{}, ask)
			if got := slices.Sorted(maps.Keys(r.Options)); !slices.Equal(got, want) {
				t.Errorf("%v, rapid commit %v: options %v, want %v", kind, rapid, got, want)
			}
			if !r.GatewayIPAddr.Equal(net.IPv4zero) || !r.ServerIPAddr.Equal(net.IPv4zero) {
				t.Errorf("%s", r.Summary())
			}
		}
	}
	r, _ := s.answer(epoch, netip.Addr{}, message(t, discover, mac1))
	if r.IPAddressRenewalTime(0) != leaseTime/2 || r.IPAddressRebindingTime(0) != leaseTime*7/8 {
		t.Errorf("%s", r.Summary())
	}
	if got := r.IPAddressLeaseTime(0); got != leaseTime || r.SubnetMask().String() != "ffffff00" || r.ServerIdentifier().String() != "192.168.49.1" {
		t.Errorf("%s", r.Summary())
	}
}

func TestBindingsAreRemembered(t *testing.T) {
	c := config()
	c.Bindings = []Binding{
		{mac1, netip.MustParseAddr("192.168.49.11")},
		{mac1, netip.MustParseAddr("192.168.49.10")},
		{mac2, netip.MustParseAddr("10.0.0.1")},
		{mac3[:3], netip.MustParseAddr("192.168.49.10")},
	}
	s := server(t, c)
	if got := s.Bindings(); len(got) != 1 || got[0].Addr.String() != "192.168.49.11" || !slices.Equal(got[0].HardwareAddr, mac1) {
		t.Errorf("bindings %v", got)
	}
	if r, _ := s.answer(epoch, netip.Addr{}, message(t, discover, mac1)); r.YourIPAddr.String() != "192.168.49.11" {
		t.Errorf("offered %v", r.YourIPAddr)
	}
}

func TestNewServerRefuses(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"no subnet":    func(c *Config) { c.Subnet = netip.Prefix{} },
		"IPv6":         func(c *Config) { c.Subnet = netip.MustParsePrefix("fd00::1/64") },
		"no interface": func(c *Config) { c.Ifname = "" },
		"pool outside": func(c *Config) { c.Last = netip.MustParseAddr("192.168.50.1") },
		"backwards":    func(c *Config) { c.First, c.Last = c.Last, c.First },
		"huge pool": func(c *Config) {
			c.Subnet, c.First, c.Last = netip.MustParsePrefix("10.0.0.1/8"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.200.0.0")
		},
	} {
		c := config()
		change(&c)
		if _, err := NewServer(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A thousand invented clients get what is there, and the tables do not grow beyond it.
func TestPoolIsBounded(t *testing.T) {
	s := server(t, config())
	for i := range 1000 {
		s.answer(epoch.Add(time.Duration(i)*time.Second), netip.Addr{}, message(t, discover, net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}))
	}
	if len(s.pool.used) > 2 || len(s.pool.of) > 2 {
		t.Errorf("%d addresses, %d clients", len(s.pool.used), len(s.pool.of))
	}
}

func TestLeaseOfChecksTheServer(t *testing.T) {
	give := func(addr, mask, from string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		mods = append(mods, dhcpv4.WithYourIP(net.ParseIP(addr)), of(from), dhcpv4.WithNetmask(net.IPMask(net.ParseIP(mask).To4())))
		return message(t, ack, mac1, mods...)
	}
	good, err := leaseOf(give("192.168.49.20", "255.255.255.0", "192.168.49.1", dhcpv4.WithLeaseTime(1<<32-1)))
	if err != nil || good != (Lease{netip.MustParsePrefix("192.168.49.20/24"), netip.MustParseAddr("192.168.49.1"), leaseMax, leaseMax * 7 / 16, leaseMax * 7 / 8}) {
		t.Errorf("%+v, %v", good, err)
	}
	// Times that make no sense are not kept.
	odd, err := leaseOf(give("192.168.49.20", "255.255.255.0", "192.168.49.1", dhcpv4.WithLeaseTime(100),
		dhcpv4.WithOption(dhcpv4.OptRenewTimeValue(time.Hour)), dhcpv4.WithOption(dhcpv4.OptRebindingTimeValue(100*time.Second))))
	if err != nil || odd.Duration != 100*time.Second || odd.Rebind >= odd.Duration || odd.Renew >= odd.Rebind || odd.Renew <= 0 {
		t.Errorf("%+v, %v", odd, err)
	}
	// A router or a DNS server that is named changes nothing: a Lease has no room for them.
	routed, err := leaseOf(give("192.168.49.20", "255.255.255.0", "192.168.49.1", dhcpv4.WithRouter(net.IPv4(192, 168, 49, 1)), dhcpv4.WithDNS(net.IPv4(192, 168, 49, 1)),
		dhcpv4.WithLeaseTime(1<<32-1)))
	if err != nil || routed != good {
		t.Errorf("%+v, %v", routed, err)
	}
	for what, m := range map[string]*dhcpv4.DHCPv4{
		"public":      give("8.8.8.8", "255.255.255.0", "8.8.8.1"),
		"loopback":    give("127.0.0.1", "255.0.0.0", "127.0.0.2"),
		"multicast":   give("224.0.0.1", "255.255.255.0", "10.0.0.1"),
		"none":        give("0.0.0.0", "255.255.255.0", "10.0.0.1"),
		"the network": give("10.0.0.0", "255.255.255.0", "10.0.0.1"),
		"broadcast":   give("10.0.0.255", "255.255.255.0", "10.0.0.1"),
		"the server":  give("10.0.0.1", "255.255.255.0", "10.0.0.1"),
		"everything":  give("10.0.0.5", "0.0.0.0", "10.0.0.1"),
		"ten":         give("10.0.0.5", "255.0.0.0", "10.0.0.1"),
		"one":         give("10.0.0.5", "255.255.255.255", "10.0.0.1"),
		"odd mask":    give("10.0.0.5", "255.0.255.0", "10.0.0.1"),
		"no server":   message(t, ack, mac1, dhcpv4.WithYourIP(net.ParseIP("10.0.0.5"))),
	} {
		if l, err := leaseOf(m); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", what, l, err)
		}
	}
}

// One client cannot have the whole pool banned.
func TestDeclinesAreBounded(t *testing.T) {
	c := config()
	c.Last = netip.MustParseAddr("192.168.49.20")
	s := server(t, c)
	for range 50 {
		r, _ := s.answer(epoch, netip.Addr{}, message(t, discover, mac1))
		if r == nil {
			t.Fatal("the pool is empty")
		}
		s.answer(epoch, netip.Addr{}, message(t, dhcpv4.MessageTypeDecline, mac1, asking(r.YourIPAddr.String())))
	}
	banned := 0
	for _, u := range s.pool.used {
		if !u.bound && u.client == (macAddr{}) {
			banned++
		}
	}
	if banned != declinesMax {
		t.Errorf("%d addresses are banned", banned)
	}
}

// Floods reach neither the library nor the members' share: ten thousand invented clients and one mad member leave another
// member what it needs.
func TestLimits(t *testing.T) {
	member := map[string]bool{mac1.String(): true, mac2.String(): true}
	c := newLimitedConn(nil, func(m net.HardwareAddr) bool { return member[m.String()] })
	passed := 0
	for i := range 10_000 {
		if c.pass(message(t, discover, net.HardwareAddr{2, 9, 0, 0, byte(i >> 8), byte(i)}).ToBytes()) {
			passed++
		}
	}
	mad := 0
	for range 10_000 {
		if c.pass(message(t, discover, mac1).ToBytes()) {
			mad++
		}
	}
	// Both took less than a second, mostly.
	if passed > 5*strangersPerSec || mad > 5*clientPerSecond+clientBurst {
		t.Errorf("%d packets of strangers and %d of the mad member passed", passed, mad)
	}
	if !c.pass(message(t, discover, mac2).ToBytes()) {
		t.Error("nothing is left for the other member")
	}
	if len(c.clients) != 2 {
		t.Errorf("%d limits are kept", len(c.clients))
	}
	for what, raw := range map[string][]byte{
		"empty": {}, "short": message(t, discover, mac2).ToBytes()[:200], "long": make([]byte, 4096), "a reply": message(t, offer, mac2, dhcpv4.WithReply(message(t, discover, mac2))).ToBytes(),
		"relayed": message(t, discover, mac2, dhcpv4.WithGatewayIP(net.IPv4(10, 0, 0, 1))).ToBytes(), "not Ethernet": message(t, discover, mac2, dhcpv4.WithHWType(32)).ToBytes(),
	} {
		if c.pass(raw) {
			t.Errorf("%s passed", what)
		}
	}
}

// Whatever clients send: no panic, no answer outside the pool, no table without bound.
func FuzzServer(f *testing.F) {
	f.Add(message(f, discover, mac1).ToBytes())
	f.Add(message(f, request, mac1, asking("192.168.49.10")).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeDecline, mac1, asking("192.168.49.10")).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeInform, mac1, having("192.168.49.10")).ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newLimitedConn(nil, nil)
		c.pass(data)
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		s := server(t, config())
		for range 2 {
			r, _ := s.answer(epoch, sender(m), m)
			if r == nil {
				continue
			}
			r.ToBytes()
			if a, ok := ip4(r.YourIPAddr); ok && !s.pool.contains(a) {
				t.Errorf("gave %v", a)
			}
			for _, o := range []dhcpv4.OptionCode{dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionRelayAgentInformation} {
				if r.Options.Has(o) {
					t.Errorf("option %v was given", o)
				}
			}
		}
		if len(s.pool.used) > 2 || len(s.pool.of) > 2 {
			t.Errorf("%d addresses, %d clients", len(s.pool.used), len(s.pool.of))
		}
	})
}

// Whatever a server sends: no panic, and no lease that could not be a group's.
func FuzzClient(f *testing.F) {
	f.Add(message(f, ack, mac1, of("192.168.49.1"), dhcpv4.WithYourIP(net.IPv4(192, 168, 49, 10))).ToBytes())
	f.Add(message(f, offer, mac1, of("10.0.0.1"), dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 2)), dhcpv4.WithLeaseTime(1), dhcpv4.WithNetmask(net.CIDRMask(16, 32))).ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		l, err := leaseOf(m)
		if err != nil {
			return
		}
		a := l.Prefix.Addr()
		if !a.Is4() || !a.IsPrivate() && !a.IsLinkLocalUnicast() || l.Prefix.Bits() < bitsMin || l.Prefix.Bits() > bitsMax || a == l.Server ||
			l.Renew <= 0 || l.Renew >= l.Rebind || l.Rebind >= l.Duration || l.Duration < leaseMin || l.Duration > leaseMax {
			t.Errorf("lease %+v", l)
		}
	})
}
