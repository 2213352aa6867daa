package link

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab"
)

// crashVariable has the test binary be an agent that sets up a group and is killed; its value is the folder of the book.
const crashVariable = "LINK_TEST_CRASH"

func crashing(dir string) {
	err := func() error {
		ifi, err := net.InterfaceByName("grp0")
		if err != nil {
			return err
		}
		b, err := OpenBook(dir)
		if err != nil {
			return err
		}
		_, err = b.EnsureGroup(context.Background(), GroupSpec{Ifname: "grp0", Index: ifi.Index, Owner: true, V4: netip.MustParsePrefix("192.168.49.1/24")})
		return err
	}()
	fmt.Println("done:", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// crash runs and kills such an agent, and returns the folder of its book.
func crash(t *testing.T, h *lab.Host) (dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := h.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if line != "done: <nil>\n" {
		t.Fatalf("the process to be killed said %q", line)
	}
	return dir
}

// A process that is killed with signal 9 leaves addresses, routes, rules and settings. The next run takes them all away.
func TestCleanupAfterSignalNine(t *testing.T) {
	a, _ := cabled(t)
	before := listing(t, a, "grp0")
	dir := crash(t, a)
	left := listing(t, a, "grp0")
	if !strings.Contains(left, "192.168.49.1/24") || !strings.Contains(left, "fe80::1/64") || strings.Count(left, "\n7421:") != 2 {
		t.Fatalf("the killed process had set up nothing:\n%s", left)
	}
	if err := a.Do(book(t, dir).Cleanup); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, a, "grp0"); after != before {
		t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
	}
	// With the link only the rules are left.
	dir = crash(t, a)
	a.IP("link", "del", "grp0")
	if out := a.IP("rule", "show"); strings.Count(out, "\n7421:") != 2 {
		t.Fatalf("no rules are left:\n%s", out)
	}
	if err := a.Do(book(t, dir).Cleanup); err != nil {
		t.Fatal(err)
	}
	if out := a.IP("rule", "show"); strings.Contains(out, "\n7421:") {
		t.Errorf("rules are left:\n%s", out)
	}
}

// answer listens on a host and says its name to whoever connects.
func answer(t *testing.T, h *lab.Host, address string) {
	t.Helper()
	var ln net.Listener
	if err := h.Do(func() (err error) { ln, err = net.Listen("tcp4", address); return err }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, h.Name)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
	})
}

// ask dials from a host, by a link or by none, and returns who answered.
func ask(h *lab.Host, ifname, address string, limit time.Duration) (who string, err error) {
	err = h.Do(func() error {
		d := net.Dialer{Timeout: limit, Control: func(_, _ string, c syscall.RawConn) (err error) {
			if ifname != "" {
				err = errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), ifname) }), err)
			}
			return err
		}}
		c, err := d.Dial("tcp4", address)
		if err != nil {
			return err
		}
		defer c.Close()
		said, err := io.ReadAll(c)
		who = string(said)
		return err
	})
	return who, err
}

// The machine is in a LAN whose network is also that of the group, and the LAN's router has the address of the group's owner.
// With plain addresses the owner's connections are answered over the LAN and hang. With ours they work, and so does
// everything on the LAN, whichever came first.
func TestCollidingSubnet(t *testing.T) {
	const port = ":4711"
	own, leased := netip.MustParsePrefix("192.168.49.5/24"), netip.MustParsePrefix("192.168.49.20/24")
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("the LAN came later %v", late), func(t *testing.T) {
			n := lab.NewNet(t)
			machine, router, owner := n.Host("machine"), n.Host("router"), n.Host("owner")
			machine.Sysctl("net.ipv4.conf.all.rp_filter", "1")
			n.Cable(machine, "eth0", router, "eth0")
			n.Cable(machine, "grp0", owner, "grp0")
			router.IP("address", "add", "192.168.49.1/24", "dev", "eth0")
			owner.IP("address", "add", "192.168.49.1/24", "dev", "grp0")
			before := listing(t, machine, "grp0")
			for _, h := range []*lab.Host{machine, router, owner} {
				answer(t, h, port)
			}
			join := func() { machine.IP("address", "add", own.String(), "dev", "eth0") }
			if !late {
				join()
				machine.IP("address", "add", leased.String(), "dev", "grp0")
				if who, err := ask(owner, "", leased.Addr().String()+port, 700*time.Millisecond); err == nil {
					t.Fatalf("with a plain address %q answered: the test proves nothing", who)
				}
				machine.IP("address", "del", leased.String(), "dev", "grp0")
			}
			b := book(t, t.TempDir())
			g := group(t, machine, b, GroupSpec{Ifname: "grp0", V4: leased})
			if late {
				join()
			}
			for i, c := range []struct {
				from       *lab.Host
				ifname, to string
				want       string
			}{
				{owner, "", leased.Addr().String(), "machine"},
				{machine, "grp0", "192.168.49.1", "owner"},
				{machine, "", "192.168.49.1", "router"},
				{router, "", own.Addr().String(), "machine"},
			} {
				if who, err := ask(c.from, c.ifname, c.to+port, eventWait); err != nil || who != c.want {
					t.Errorf("connection %d from %s by %q to %s: %q, %v; want %q", i, c.from.Name, c.ifname, c.to, who, err, c.want)
				}
			}
			// The same again changes nothing.
			once := listing(t, machine, "grp0")
			group(t, machine, b, GroupSpec{Ifname: "grp0", V4: leased})
			if twice := listing(t, machine, "grp0"); twice != once && !late {
				t.Errorf("the second call changed something:\n%s\n%s", once, twice)
			}
			if err := machine.Do(g.Close); err != nil {
				t.Fatal(err)
			}
			if after := listing(t, machine, "grp0"); after != before {
				t.Errorf("not put back:\nbefore\n%s\nafter\n%s", before, after)
			}
			// A group that would give us an address that we have already is refused.
			err := machine.Do(func() error {
				ifi, err := net.InterfaceByName("grp0")
				if err != nil {
					return err
				}
				_, err = b.EnsureGroup(t.Context(), GroupSpec{Ifname: "grp0", Index: ifi.Index, V4: own})
				return err
			})
			if !errors.Is(err, ErrTaken) {
				t.Errorf("an address that eth0 has: %v", err)
			}
			if after := listing(t, machine, "grp0"); after != before {
				t.Errorf("the refused address left something:\nbefore\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// Where nothing overlaps, every program of the machine reaches the group's network.
func TestGroupNetworkIsReachable(t *testing.T) {
	a, b := cabled(t)
	b.IP("address", "add", "192.168.49.9/24", "dev", "grp0")
	answer(t, b, ":4711")
	g := group(t, a, book(t, t.TempDir()), GroupSpec{Ifname: "grp0", Owner: true, V4: netip.MustParsePrefix("192.168.49.1/24")})
	if who, err := ask(a, "", "192.168.49.9:4711", eventWait); err != nil || who != "b" {
		t.Errorf("%q, %v", who, err)
	}
	if err := a.Do(g.Close); err != nil {
		t.Error(err)
	}
}
