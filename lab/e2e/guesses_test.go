package e2e_test

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestTenThousandGuessesFromChangingAddresses has a script guess a device's setup code, with ever new keys, from ever new
// addresses of an IPv6 /64 and of an IPv4 /16: after three wrong ones none is even looked at, so that 10 000 gain nothing.
// Meanwhile the user of that device pairs with another one by comparing codes, and afterwards with a new setup code.
func TestTenThousandGuessesFromChangingAddresses(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb, hc, hm := n.Host("ada"), n.Host("bob"), n.Host("carol"), n.Host("mallory")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24", "fd00:1::2/64")
	lan.Join(hc, "eth0", "10.0.0.3/24")
	lan.Join(hm, "eth0", "10.0.0.66/24", "fd00:1::66/64")
	// All addresses of the two networks are mallory's.
	hm.Sysctl("net.ipv6.ip_nonlocal_bind", "1")
	hm.IP("-6", "route", "add", "local", "fd00:2::/64", "dev", "lo")
	hm.IP("route", "add", "local", "10.66.0.0/16", "dev", "lo")
	hb.IP("-6", "route", "add", "fd00:2::/64", "via", "fd00:1::66")
	hb.IP("route", "add", "10.66.0.0/16", "via", "10.0.0.66")
	ada, bob, carol := start(t, ha, "ada"), start(t, hb, "bob"), start(t, hc, "carol")
	for _, a := range []*node.Agent{ada, carol} {
		if err := a.Await(within(t, 30*time.Second), hasPeer("bob", "visible")); err != nil {
			t.Fatal(err)
		}
	}
	code := strings.TrimSpace(ask(t, bob, "", "setup-code").out)
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(status.Agent.Port)

	// Strangers have a budget, so that most guesses are turned away unread, or break off at the door.
	const guesses, read = 10_000, 2_000
	var tried atomic.Int32
	var looked, refused [2]atomic.Int32 // by version of IP
	answered := func() int32 {
		return looked[0].Load() + looked[1].Load() + refused[0].Load() + refused[1].Load()
	}
	some := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var script sync.WaitGroup
	half := sync.OnceFunc(func() { close(some) })
	guess := func(ctx context.Context, v int, more func() bool) {
		for more() && ctx.Err() == nil {
			from, to := netip.AddrFrom4([4]byte{10, 66}), netip.MustParseAddr("10.0.0.2")
			if v == 1 {
				from, to = netip.MustParseAddr("fd00:2::"), netip.MustParseAddr("fd00:1::2")
			}
			raw := from.AsSlice()
			rand.Read(raw[len(raw)/2:]) // the lower half is its own choice
			from, _ = netip.AddrFromSlice(raw)
			dialling, stop := context.WithTimeout(ctx, 5*time.Second)
			l, err := newStranger(t, hm).dial(dialling, from, netip.AddrPortFrom(to, port))
			stop()
			if err != nil {
				tried.Add(1)
				continue // its addresses come too often
			}
			for range 50 {
				status, answer := l.ask("POST", "/v1/pair/code", map[string]any{"v": 1, "name": "mallory", "proof": word(random32())})
				tried.Add(1)
				switch {
				case status == 0:
					// The connection made room for another one.
				case answer["code"] == "wrong":
					looked[v].Add(1)
				default:
					refused[v].Add(1)
				}
				if answered() >= read/5 {
					half()
				}
			}
			l.close()
		}
	}
	for i := range 6 {
		script.Go(func() {
			guess(ctx, i%2, func() bool { return tried.Load() < guesses || answered() < read })
			cancel() // the others need not finish what they are at
		})
	}
	select {
	case <-some:
	case <-ctx.Done():
		t.Fatalf("the script does not get through: %d answers", answered())
	}
	pairing := began(t, bob, "", "pair", "ada")
	atBob, atAda := pairQuestion(t, bob), pairQuestion(t, ada)
	if atBob.Code != atAda.Code {
		t.Errorf("the codes are %s and %s", atBob.Code, atAda.Code)
	}
	for _, q := range []struct {
		on *node.Agent
		id string
	}{{ada, atAda.ID}, {bob, atBob.ID}} {
		if err := q.on.Client().Accept(t.Context(), q.id, control.AcceptRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if d := <-pairing; d.code != 0 {
		t.Errorf("pairing while codes are guessed: %+v", d)
	}
	script.Wait()
	t.Logf("of %d guesses %d were answered, %d of them from one /64, %d were looked at", tried.Load(), answered(), looked[1].Load()+refused[1].Load(), looked[0].Load()+looked[1].Load())
	if n := looked[0].Load() + looked[1].Load(); n < 3 || n > 5 { // a lock of a minute may end meanwhile, and one of two
		t.Errorf("%d guesses were looked at, want 3 and one for each lock that ended", n)
	}
	for v, what := range []string{"IPv4", "IPv6"} {
		if n := looked[v].Load() + refused[v].Load(); n < read/50 {
			t.Errorf("only %d guesses came over %s: the script did not get through", n, what)
		}
	}
	if tried.Load() < guesses || answered() < read {
		t.Errorf("only %d guesses were made, and %d answered", tried.Load(), answered())
	}
	if d := ask(t, carol, code, "pair", "bob", "--code", "-"); d.code != 3 || !strings.Contains(d.errs, "takes no setup code for now") {
		t.Errorf("the right code, while it is locked: %+v", d)
	}
	// A new code is not locked at once, although the script goes on meanwhile.
	fresh := strings.TrimSpace(ask(t, bob, "", "setup-code", "--new").out)
	before := looked[0].Load() + looked[1].Load()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	many := make(chan struct{})
	enough := sync.OnceFunc(func() { close(many) })
	for v := range 2 {
		script.Go(func() {
			guess(ctx, v, func() bool {
				if looked[0].Load()+looked[1].Load() > before+10 {
					enough()
				}
				return true
			})
		})
	}
	select {
	case <-many:
	case <-ctx.Done():
		t.Error("the script does not get through any more")
	}
	if d := ask(t, carol, fresh, "pair", "bob", "--code", "-"); d.code != 0 {
		t.Errorf("a new code, while codes are guessed: %+v", d)
	}
	cancel()
	script.Wait()
	t.Logf("%d guesses at the new code were looked at", looked[0].Load()+looked[1].Load()-before)
	bothTrust(t, ada, bob)
	var book []control.Trusted
	if err := bob.JSON(t.Context(), &book, "trust", "list"); err != nil || len(book) != 2 {
		t.Errorf("bob knows %+v (%v), want ada and carol", book, err)
	}
}
