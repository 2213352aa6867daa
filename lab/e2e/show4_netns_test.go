//go:build netns

package e2e_test

import (
	wire "encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/control"
	"nigh/lab"
)

// capture is a packet socket that keeps what passes a link, in both directions, until it is asked.
type capture struct {
	t  *testing.T
	fd int
}

// capturing listens on a link of a host from now on.
func capturing(t *testing.T, h *lab.Host, ifname string) capture {
	t.Helper()
	c := capture{t: t, fd: -1}
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		all := wire.NativeEndian.Uint16(wire.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		// Without the link header, which a TUN device has not.
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	})
	if err != nil {
		t.Fatalf("capture on %s: %v", ifname, err)
	}
	t.Cleanup(func() { _ = unix.Close(c.fd) })
	return c
}

// sent returns how many packets of mDNS and of sessions this host sent by the link since the last call.
func (c capture) sent() (mdns, session int) {
	c.t.Helper()
	b := make([]byte, 1<<16)
	for {
		size, from, err := unix.Recvfrom(c.fd, b, 0)
		if err == unix.EAGAIN {
			return mdns, session
		}
		if err == unix.ENETDOWN {
			continue // the link was down for a while
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		both := ports(b[:size])
		if slices.Contains(both, 5353) {
			mdns++
		}
		if slices.Contains(both, 7421) {
			session++
		}
	}
}

// ports are those of a UDP or TCP packet, none of any other.
func ports(p []byte) []uint16 {
	header, protocol := 0, byte(0)
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		header, protocol = int(p[0]&15)*4, p[9]
	case len(p) >= 40 && p[0]>>4 == 6:
		header, protocol = 40, p[6]
	}
	if protocol != unix.IPPROTO_UDP && protocol != unix.IPPROTO_TCP || len(p) < header+4 {
		return nil
	}
	return []uint16{wire.BigEndian.Uint16(p[header:]), wire.BigEndian.Uint16(p[header+2:])}
}

// TestShow4ManyLinks: a host with a container bridge, a VPN, a link for tests, a cable without a carrier, two LANs and no
// default route finds the devices on both LANs, and is silent everywhere else.
func TestShow4ManyLinks(t *testing.T) {
	n := lab.NewNet(t)
	host, container := n.Host("host"), n.Host("container")
	lan1, lan2 := n.Bridge("lan1"), n.Bridge("lan2")
	lan1.Join(host, "eth0", "10.1.0.1/24")
	lan2.Join(host, "eth1", "10.2.0.1/24")

	// As docker makes it.
	host.IP("link", "add", "docker0", "up", "type", "bridge", "forward_delay", "0")
	host.IP("address", "add", "172.17.0.1/16", "dev", "docker0")
	n.Cable(host, "veth12ab34", container, "eth0")
	host.IP("address", "add", "172.17.255.1/16", "dev", "veth12ab34")
	host.IP("link", "set", "veth12ab34", "master", "docker0")
	container.IP("address", "add", "172.17.0.2/16", "dev", "eth0")

	n.Cable(host, "eth9", container, "pulled")
	host.IP("address", "add", "10.9.0.1/24", "dev", "eth9")
	container.IP("link", "set", "pulled", "down")

	tunnel(t, host, "tun0")
	host.IP("address", "add", "10.8.0.2", "peer", "10.8.0.1", "dev", "tun0")
	wrong := []string{"docker0", "veth12ab34", "eth9", "tun0", "ifb7", "lo"}
	host.IP("link", "add", "name", "ifb7", "up", "type", "ifb")
	host.IP("address", "add", "10.7.0.1/24", "dev", "ifb7")
	if dummy := host.Command(t.Context(), "ip", "link", "add", "name", "dummy0", "up", "type", "dummy"); dummy.Run() == nil {
		host.IP("address", "add", "10.6.0.1/24", "dev", "dummy0")
		wrong = append(wrong, "dummy0")
	} else {
		t.Log("this kernel has no dummy links; ifb7 stands for it")
	}

	captures := map[string]capture{}
	for _, ifname := range append([]string{"eth0", "eth1"}, wrong...) {
		captures[ifname] = capturing(t, host, ifname)
	}
	bob, cleo := n.Host("bob"), n.Host("cleo")
	lan1.Join(bob, "eth0", "10.1.0.2/24")
	lan2.Join(cleo, "eth0", "10.2.0.2/24")
	start(t, bob, "bob")
	start(t, cleo, "cleo")
	start(t, container, "dan")
	began := time.Now()
	ada := start(t, host, "ada")
	both := func(s control.State) bool { return hasPeer("bob", "visible")(s) && hasPeer("cleo", "visible")(s) }
	if err := ada.Await(within(t, 20*time.Second), both); err != nil {
		t.Fatalf("%v\n%s", err, ada.Tail())
	}
	took := time.Since(began)
	t.Logf("devices on both LANs are listed %v after the start", took)
	if limit := lab.Bound(t, 2*time.Second); took > limit {
		t.Errorf("listed only after %v, the bound is %v", took, limit)
	}

	status, err := ada.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range status.Links {
		if want := l.Ifname == "eth0" || l.Ifname == "eth1"; l.Usable != want || (l.Why == "") != want {
			t.Errorf("link %s: usable %v, %q", l.Ifname, l.Usable, l.Why)
		}
	}
	// A clean stop says goodbye, which is the last that could go astray.
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	for ifname, c := range captures {
		mdns, session := c.sent()
		if bad := slices.Contains(wrong, ifname); bad && mdns+session > 0 || !bad && (mdns == 0 || session == 0) {
			t.Errorf("%d packets of mDNS and %d of sessions left by %s", mdns, session, ifname)
		}
	}

	// What the user names is used instead, and nothing else.
	ada.Args = append(ada.Args, "--interface", "docker0")
	if err := ada.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, 20*time.Second), hasPeer("dan", "visible")); err != nil {
		t.Fatalf("%v\n%s", err, ada.Tail())
	}
	var peers []control.Peer
	if err := ada.JSON(t.Context(), &peers, "peers"); err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 {
		t.Errorf("on docker0 alone ada lists %+v", peers)
	}
	if err := ada.Stop(); err != nil {
		t.Fatal(err)
	}
	if mdns, _ := captures["docker0"].sent(); mdns == 0 {
		t.Error("nothing was said on the interface that was chosen")
	}
	for _, ifname := range []string{"eth0", "eth1"} {
		if mdns, _ := captures[ifname].sent(); mdns > 0 {
			t.Errorf("%d packets of mDNS left by %s, which was not chosen", mdns, ifname)
		}
	}
}

// tunnel opens a TUN device, which carries for as long as the test runs.
func tunnel(t *testing.T, h *lab.Host, name string) {
	t.Helper()
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	// The device is made in the namespace of the thread that opens the file.
	err = h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.IP("link", "set", name, "up")
}
