//go:build netns

package link

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

// Two nigh devices need no DHCP: when the link of a group comes up, both have a link-local address that can be bound and
// dialled from within 50 ms, with the kernel's usual settings, and a connection follows soon.
func TestShow6LinkLocalReady(t *testing.T) {
	const runs, bound = 20, 50 * time.Millisecond
	var ready, connected []time.Duration
	for range runs {
		a, b := cabled(t)
		for _, h := range []*lab.Host{a, b} {
			h.IP("link", "set", "grp0", "down")
			h.Sysctl("net.ipv6.conf.grp0.accept_dad", "1")
		}
		// As a group comes up: the kernel begins to probe for addresses of its own.
		for _, h := range []*lab.Host{a, b} {
			h.IP("link", "set", "grp0", "up")
		}
		for _, h := range []*lab.Host{a, b} {
			for deadline := time.Now().Add(eventWait); hardware(t, h, "grp0").Flags&net.FlagRunning == 0; {
				if time.Now().After(deadline) {
					t.Fatal("the link does not carry")
				}
			}
		}
		booka, bookb := book(t, t.TempDir()), book(t, t.TempDir())
		indexa, indexb := hardware(t, a, "grp0").Index, hardware(t, b, "grp0").Index
		var ln net.Listener
		var local *net.TCPAddr
		start := time.Now()
		both, ctx := errgroup.WithContext(t.Context())
		both.Go(func() error {
			return a.Do(func() error {
				if _, err := booka.EnsureGroup(ctx, GroupSpec{Ifname: "grp0", Index: indexa, Owner: true}); err != nil {
					return err
				}
				var err error
				// The zone by its index: package net keeps names of other namespaces for a while.
				ln, err = net.Listen("tcp6", fmt.Sprintf("[fe80::1%%%d]:0", indexa))
				return err
			})
		})
		both.Go(func() error {
			return b.Do(func() error {
				g, err := bookb.EnsureGroup(ctx, GroupSpec{Ifname: "grp0", Index: indexb})
				if err != nil {
					return err
				}
				// Binding fails while an address is tentative.
				addr := &unix.SockaddrInet6{Addr: g.LinkLocal().As16(), ZoneId: uint32(indexb)}
				local = &net.TCPAddr{IP: addr.Addr[:], Zone: fmt.Sprint(indexb)}
				fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer func() { _ = unix.Close(fd) }()
				return unix.Bind(fd, addr)
			})
		})
		if err := both.Wait(); err != nil {
			t.Fatal(err)
		}
		ready = append(ready, time.Since(start))
		to := &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: fmt.Sprint(indexb), Port: ln.Addr().(*net.TCPAddr).Port}
		err := b.Do(func() (err error) {
			for deadline := time.Now().Add(eventWait); time.Now().Before(deadline); {
				// As a session does: a dial that the first lost packet has stopped is repeated.
				dctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				var c net.Conn
				c, err = (&net.Dialer{LocalAddr: local}).DialContext(dctx, "tcp6", to.String())
				cancel()
				if err == nil {
					return c.Close()
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		connected = append(connected, time.Since(start))
		_ = ln.Close()
	}
	slices.Sort(ready)
	slices.Sort(connected)
	t.Logf("link-local addresses ready after %v, at worst %v; connected after %v, at worst %v (%d runs)",
		ready[runs/2], ready[runs-1], connected[runs/2], connected[runs-1], runs)
	// One run may be unlucky: the kernel does the work of others too, such as taking down the namespaces of the test before.
	limit := lab.Bound(t, bound)
	if ready[runs-2] > limit || ready[runs-1] > 4*limit {
		t.Errorf("ready only after %v and %v, the bound is %v", ready[runs-2], ready[runs-1], limit)
	}
	// The kernel asks again after 100 ms where the first question for the other's hardware address is lost, as it often is on a
	// new link.
	if limit := lab.Bound(t, time.Second); connected[runs-1] > limit {
		t.Errorf("connected only after %v, the bound is %v", connected[runs-1], limit)
	}
}
