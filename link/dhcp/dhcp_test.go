package dhcp

import (
	"errors"
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
			{"renew", leaseTime / 2, m(request, mac1, having("192.168.49.11")), ack, "192.168.49.11", true},
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
			{"not a member", 0, m(discover, net.HardwareAddr{2, 9, 9, 9, 9, 9}), 0, "", false},
			{"an offer", 0, m(offer, mac1), 0, "", false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config()
			c.Allowed = func(m net.HardwareAddr) bool { return m[1] == 0 }
			s := server(t, c)
			for _, st := range steps {
				r, stored := s.answer(epoch.Add(st.at), st.m)
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
	r, _ := s.answer(epoch, message(t, discover, mac1, dhcpv4.WithRequestedOptions(
		dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.GenericOptionCode(114))))
	for _, o := range []dhcpv4.OptionCode{dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.GenericOptionCode(114)} {
		if r.Options.Has(o) {
			t.Errorf("option %v was given", o)
		}
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
	if r, _ := s.answer(epoch, message(t, discover, mac1)); r.YourIPAddr.String() != "192.168.49.11" {
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
		s.answer(epoch.Add(time.Duration(i)*time.Second), message(t, discover, net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}))
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
	if err != nil || good != (Lease{netip.MustParsePrefix("192.168.49.20/24"), netip.MustParseAddr("192.168.49.1"), leaseMax}) {
		t.Errorf("%+v, %v", good, err)
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
		"one":         give("10.0.0.5", "255.255.255.255", "10.0.0.1"),
		"odd mask":    give("10.0.0.5", "255.0.255.0", "10.0.0.1"),
		"no server":   message(t, ack, mac1, dhcpv4.WithYourIP(net.ParseIP("10.0.0.5"))),
	} {
		if l, err := leaseOf(m); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", what, l, err)
		}
	}
}

// Whatever a client or a server sends: no panic, no answer outside the pool, no table without bound.
func FuzzPackets(f *testing.F) {
	f.Add(message(f, discover, mac1).ToBytes())
	f.Add(message(f, request, mac1, asking("192.168.49.10")).ToBytes())
	f.Add(message(f, ack, mac1, of("192.168.49.1"), dhcpv4.WithYourIP(net.IPv4(192, 168, 49, 10))).ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		if l, err := leaseOf(m); err == nil && (!l.Prefix.Addr().Is4() || l.Duration <= 0) {
			t.Errorf("lease %+v", l)
		}
		s := server(t, config())
		for range 2 {
			r, _ := s.answer(epoch, m)
			if r == nil {
				continue
			}
			r.ToBytes()
			if a, ok := ip4(r.YourIPAddr); ok && !s.pool.contains(a) {
				t.Errorf("gave %v", a)
			}
		}
		if len(s.pool.used) > 2 || len(s.pool.of) > 2 {
			t.Errorf("%d addresses, %d clients", len(s.pool.used), len(s.pool.of))
		}
	})
}
