//go:build netns

package e2e_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// seen is a moment at which an event came.
type seen struct {
	event control.Event
	at    time.Time
}

// watch follows an agent's events until the test ends, with the time of each.
func watch(t *testing.T, a *node.Agent) <-chan seen {
	t.Helper()
	events, err := a.Client().Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan seen, 4096)
	go func() { // ends with the stream
		defer close(out)
		for e := range events {
			out <- seen{e, time.Now()}
		}
	}()
	return out
}

// when waits for the first event after which ok holds of the state, and returns
// when it came.
func when(t *testing.T, events <-chan seen, state *control.State, what string, limit time.Duration, ok func(control.State) bool) time.Time {
	t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case s, open := <-events:
			if !open {
				t.Fatalf("%s: the event stream ended", what)
			}
			node.Apply(state, s.event)
			if ok(*state) {
				return s.at
			}
		case <-deadline:
			t.Fatalf("%s: not within %v; peers: %+v", what, limit, state.Peers)
		}
	}
}

func lists(name string) func(control.State) bool {
	return func(s control.State) bool {
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool { return p.Name == name && p.State != "away" })
	}
}

func misses(name string) func(control.State) bool {
	has := lists(name)
	return func(s control.State) bool { return !has(s) }
}

// median returns the middle one and the largest.
func median(all []time.Duration) (middle, worst time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

func seconds(all []time.Duration) string {
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, "%.2f ", d.Seconds())
	}
	return strings.TrimSpace(b.String())
}

// TestShow2GoneAfterAPowerCut takes the power of a device that is trusted by one agent and a stranger to another. A stranger's
// records live for two minutes; all other tests of this file run meanwhile.
func TestShow2GoneAfterAPowerCut(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	agents := map[string]*node.Agent{}
	var dark *lab.Host
	for i, name := range []string{"ada", "bob", "eve"} {
		h := n.Host(name)
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		agents[name] = start(t, h, name)
		if name == "bob" {
			dark = h
		}
	}
	befriend(t, agents["ada"], agents["bob"])
	friend, friendState := watch(t, agents["ada"]), control.State{}
	stranger, strangerState := watch(t, agents["eve"]), control.State{}
	when(t, friend, &friendState, "bob is ready", 30*time.Second, hasPeer("bob", "ready"))
	when(t, stranger, &strangerState, "bob is listed", 30*time.Second, lists("bob"))
	// Nothing of it is heard any more, not even a reset.
	lan.Cut(dark, "eth0")
	cut := time.Now()
	if err := agents["bob"].Kill(); err != nil {
		t.Fatal(err)
	}
	away := when(t, friend, &friendState, "bob is away", time.Minute, misses("bob"))
	t.Logf("power cut to away for a friend: %.2f s", away.Sub(cut).Seconds())
	if d := away.Sub(cut); d > lab.Bound(t, 10*time.Second) {
		t.Errorf("away %v after a power cut, want 10 s", d)
	}
	t.Parallel() // waits for the other tests; the events are collected with their times
	gone := when(t, stranger, &strangerState, "bob is gone", 3*time.Minute, misses("bob"))
	t.Logf("power cut to gone for a stranger: %.1f s", gone.Sub(cut).Seconds())
	if d := gone.Sub(cut); d > lab.Bound(t, 130*time.Second) {
		t.Errorf("gone %v after a power cut, want 130 s", d)
	}
}

// TestShow2ListedAndGone starts and stops a device beside a running one 20 times: half of
// the times on an IPv4-only link, half on an IPv6-only one.
func TestShow2ListedAndGone(t *testing.T) {
	var listed, gone []time.Duration
	for _, family := range []string{"IPv4", "IPv6"} {
		n := lab.NewNet(t)
		lan := n.Bridge("lan")
		ha, hb := n.Host("ada"), n.Host("bob")
		for i, h := range []*lab.Host{ha, hb} {
			if family == "IPv4" {
				h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
				lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
			} else {
				lan.Join(h, "eth0")
			}
		}
		ada := start(t, ha, "ada")
		events, state := watch(t, ada), control.State{}
		bob := start(t, hb, "bob")
		when(t, events, &state, "listed", 30*time.Second, lists("bob"))
		if err := bob.Stop(); err != nil {
			t.Fatal(err)
		}
		when(t, events, &state, "gone", 30*time.Second, misses("bob"))
		for range 10 {
			began := time.Now()
			if err := bob.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			there, other := watch(t, bob), control.State{}
			back := when(t, there, &other, "ada is listed", 30*time.Second, lists("ada"))
			here := when(t, events, &state, "bob is listed", 30*time.Second, lists("bob"))
			listed = append(listed, max(here.Sub(began), back.Sub(began)))
			stopping := time.Now()
			if err := bob.Stop(); err != nil {
				t.Fatal(err)
			}
			away := when(t, events, &state, "bob is gone", 30*time.Second, misses("bob"))
			gone = append(gone, away.Sub(stopping))
		}
	}
	t.Logf("start to listed on both sides, s: %s", seconds(listed))
	t.Logf("stop to gone, s: %s", seconds(gone))
	middle, worst := median(listed)
	t.Logf("start to listed: median %.2f s, worst %.2f s", middle.Seconds(), worst.Seconds())
	if middle > lab.Bound(t, time.Second) || worst > lab.Bound(t, 2*time.Second) {
		t.Errorf("listed after %v in the median, %v at worst; want 1 s, 2 s", middle, worst)
	}
	middle, worst = median(gone)
	t.Logf("stop to gone: median %.2f s, worst %.2f s", middle.Seconds(), worst.Seconds())
	if worst > lab.Bound(t, 1500*time.Millisecond) {
		t.Errorf("gone %v after a clean stop, want 1.5 s", worst)
	}
}

func TestShow2NewLinks(t *testing.T) {
	n := lab.NewNet(t)
	ha, he := n.Host("ada"), n.Host("eve")
	ada, eve := start(t, ha, "ada"), start(t, he, "eve")
	here, hereState := watch(t, ada), control.State{}
	there, thereState := watch(t, eve), control.State{}
	for i, c := range []struct{ name, a, e string }{
		{"IPv4 and IPv6", "10.0.1.1/24", "10.0.1.2/24"}, {"IPv6 only", "", ""}, {"IPv4 only", "10.0.3.1/24", "10.0.3.2/24"},
	} {
		segment := n.Bridge("new-" + strings.ReplaceAll(c.name, " ", "-"))
		ifname := fmt.Sprintf("eth%d", i)
		for h, addr := range map[*lab.Host]string{ha: c.a, he: c.e} {
			if c.name == "IPv4 only" {
				h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
			}
			if addr == "" {
				segment.Join(h, ifname)
			} else {
				segment.Join(h, ifname, addr)
			}
		}
		added := time.Now()
		on := func(who string) func(control.State) bool {
			return func(s control.State) bool {
				return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
					return p.Name == who && slices.ContainsFunc(p.Paths, func(path control.Path) bool { return path.Ifname == ifname })
				})
			}
		}
		one := when(t, here, &hereState, c.name+": eve on "+ifname, 30*time.Second, on("eve"))
		two := when(t, there, &thereState, c.name+": ada on "+ifname, 30*time.Second, on("ada"))
		d := max(one.Sub(added), two.Sub(added))
		t.Logf("link added (%s) to listed on both sides: %.2f s", c.name, d.Seconds())
		if d > lab.Bound(t, 2*time.Second) {
			t.Errorf("%s: listed %v after the link was there, want 2 s", c.name, d)
		}
	}
}

// moved follows a running transfer from now on and returns the longest time in which no byte of it was counted; that is told
// four times a second.
func moved(t *testing.T, a *node.Agent, events <-chan seen, state *control.State, limit time.Duration) (gap time.Duration, last control.Transfer) {
	t.Helper()
	deadline := time.After(limit)
	at, done := time.Now(), state.Transfers[0].BytesDone
	for {
		select {
		case s, open := <-events:
			if !open {
				t.Fatal("the event stream ended")
			}
			node.Apply(state, s.event)
			if s.event.Transfer == nil {
				continue
			}
			last = *s.event.Transfer
			if last.BytesDone > done {
				gap = max(gap, s.at.Sub(at))
				done, at = last.BytesDone, s.at
			}
			switch last.State {
			case "done", "verifying":
				return gap, last
			case "failed", "refused":
				t.Fatalf("the transfer failed: %+v", last)
			}
		case <-deadline:
			t.Fatalf("the transfer does not end: %+v\n%s", last, a.Tail())
		}
	}
}

// TestPathChangesDuringATransfer starts a transfer on one LAN, connects a second one and takes the first away in the
// middle: by pulling a cable of either side, or by a switch that goes silent.
func TestPathChangesDuringATransfer(t *testing.T) {
	const size = 768 << 20
	src := filepath.Join(t.TempDir(), "film.mov")
	random(t, src, size)
	want := digest(t, src)
	for _, c := range []struct {
		name string
		from string // who sends
		cut  func(lan *lab.Bridge, sender, receiver *lab.Host)
	}{
		{"sender unplugged", "ada", func(lan *lab.Bridge, s, _ *lab.Host) { lan.Unplug(s, "eth0") }},
		{"receiver unplugged", "bob", func(lan *lab.Bridge, _, r *lab.Host) { lan.Unplug(r, "eth0") }},
		{"silent switch", "ada", func(lan *lab.Bridge, s, _ *lab.Host) { lan.Cut(s, "eth0") }},
		{"sender's address gone", "bob", func(_ *lab.Bridge, s, _ *lab.Host) { s.IP("address", "flush", "dev", "eth0") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			hosts := map[string]*lab.Host{"ada": n.Host("ada"), "bob": n.Host("bob")}
			lan.Join(hosts["ada"], "eth0", "10.0.0.1/24")
			lan.Join(hosts["bob"], "eth0", "10.0.0.2/24")
			agents := map[string]*node.Agent{}
			for name, h := range hosts {
				agents[name] = start(t, h, name, "--accept", "trusted")
			}
			befriend(t, agents["ada"], agents["bob"])
			to := map[string]string{"ada": "bob", "bob": "ada"}[c.from]
			sender, receiver := agents[c.from], agents[to]
			if err := sender.Await(within(t, 30*time.Second), hasPeer(to, "ready")); err != nil {
				t.Fatal(err)
			}
			events, state := watch(t, receiver), control.State{}
			if _, errs, code := sender.Run(within(t, 30*time.Second), "send", src, "--to", to); code != 0 {
				t.Fatalf("send: exit %d: %s", code, errs)
			}
			when(t, events, &state, "bytes move", time.Minute, func(s control.State) bool {
				return len(s.Transfers) > 0 && s.Transfers[0].BytesDone > size/20
			})
			n.Cable(hosts["ada"], "eth1", hosts["bob"], "eth1")
			when(t, events, &state, "the cable is a path", 30*time.Second, func(s control.State) bool {
				if len(s.Transfers) > 0 && s.Transfers[0].State == "done" {
					t.Fatal("the transfer was done before its path could be cut; make the file larger")
				}
				return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
					return slices.ContainsFunc(p.Paths, func(path control.Path) bool { return path.Ifname == "eth1" })
				})
			})
			at := state.Transfers[0].BytesDone
			if !slices.ContainsFunc(state.Peers, func(p control.Peer) bool {
				return slices.ContainsFunc(p.Paths, func(path control.Path) bool { return path.Ifname == "eth0" && path.Active })
			}) {
				t.Fatalf("the LAN is not in use any more: %+v", state.Peers)
			}
			c.cut(lan, hosts[c.from], hosts[to])
			gap, last := moved(t, receiver, events, &state, 3*time.Minute)
			t.Logf("cut at %.0f %%, longest time without progress %.2f s", 100*float64(at)/size, gap.Seconds())
			if gap > lab.Bound(t, 2*time.Second) {
				t.Errorf("no byte moved for %v, want at most 2 s\n%s", gap, receiver.Tail())
			}
			if err := sender.Await(within(t, time.Minute), transferIs("done")); err != nil {
				t.Fatal(err)
			}
			if err := receiver.Await(within(t, time.Minute), transferIs("done")); err != nil {
				t.Fatal(err)
			}
			if got := digest(t, filepath.Join(receiver.Inbox, "film.mov")); got != want {
				t.Error("the hashes differ")
			}
			var transfers []control.Transfer
			if err := sender.JSON(t.Context(), &transfers, "transfers"); err != nil {
				t.Fatal(err)
			}
			again := transfers[0].BytesMoved - size
			t.Logf("%.1f MiB were sent twice", float64(again)/(1<<20))
			// Two requests of 8 MiB were under way, and what the sockets held.
			if again > 32<<20 {
				t.Errorf("%d bytes were sent twice", again)
			}
			_ = last
		})
	}
}

// TestBetterPathIsTakenDuringATransfer: a wire is better than what is reached by a typed address.
func TestBetterPathIsTakenDuringATransfer(t *testing.T) {
	const size = 1 << 30
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	for _, h := range []*lab.Host{ha, hb} {
		rules(t, h, `chain in { type filter hook input priority 0; iifname "eth0" udp dport 5353 drop; }`)
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	if _, errs, code := ada.Run(within(t, 30*time.Second), "peers", "add", "10.0.0.2"); code != 0 {
		t.Fatalf("peers add: exit %d: %s", code, errs)
	}
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "film.mov")
	random(t, src, size)
	events, state := watch(t, bob), control.State{}
	if _, errs, code := ada.Run(within(t, 30*time.Second), "send", src, "--to", "bob"); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	when(t, events, &state, "bytes move", time.Minute, func(s control.State) bool {
		return len(s.Transfers) > 0 && s.Transfers[0].BytesDone > size/20
	})
	n.Cable(ha, "eth1", hb, "eth1")
	plugged := time.Now()
	at := when(t, events, &state, "the cable is taken", time.Minute, func(s control.State) bool {
		if len(s.Transfers) > 0 && s.Transfers[0].State == "done" {
			t.Fatal("the transfer was done before the path could change; make the file larger")
		}
		return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
			return slices.ContainsFunc(p.Paths, func(path control.Path) bool { return path.Ifname == "eth1" && path.Active })
		})
	})
	t.Logf("plugged in to taken: %.2f s", at.Sub(plugged).Seconds())
	before := received(t, hb, "eth1")
	gap, _ := moved(t, bob, events, &state, 3*time.Minute)
	carried := received(t, hb, "eth1") - before
	t.Logf("longest time without progress %.2f s, %.0f MiB came over the cable", gap.Seconds(), float64(carried)/(1<<20))
	if carried < 64<<20 {
		t.Errorf("%d bytes came over the better path", carried)
	}
	if err := bob.Await(within(t, time.Minute), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if digest(t, src) != digest(t, filepath.Join(bob.Inbox, "film.mov")) {
		t.Error("the hashes differ")
	}
}

// received is how many bytes a link of h has taken in.
func received(t *testing.T, h *lab.Host, ifname string) (bytes int64) {
	t.Helper()
	out, err := h.Command(t.Context(), "cat", "/sys/class/net/"+ifname+"/statistics/rx_bytes").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestAddressChangesAreNoticed changes an address while the link stays: of this device, which knows at once, and of the
// peer, which announces it.
func TestAddressChangesAreNoticed(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	for i, h := range []*lab.Host{ha, hb} {
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")        // else the link-local address carries on
		h.Sysctl("net.ipv4.conf.default.promote_secondaries", "1") // else the kernel takes the new address with the old one
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
	}
	ada, bob := start(t, ha, "ada"), start(t, hb, "bob")
	befriend(t, ada, bob)
	views := map[*node.Agent]<-chan seen{ada: watch(t, ada), bob: watch(t, bob)}
	states := map[*node.Agent]*control.State{ada: {}, bob: {}}
	for a, name := range map[*node.Agent]string{ada: "bob", bob: "ada"} {
		when(t, views[a], states[a], "ready", 30*time.Second, hasPeer(name, "ready"))
	}
	active := func(prefix string) func(control.State) bool {
		return func(s control.State) bool {
			return slices.ContainsFunc(s.Peers, func(p control.Peer) bool {
				return p.State == "ready" && slices.ContainsFunc(p.Paths, func(path control.Path) bool {
					return path.Active && strings.HasPrefix(path.Address, prefix)
				})
			})
		}
	}
	hb.IP("address", "add", "10.0.0.7/24", "dev", "eth0")
	changed := time.Now()
	hb.IP("address", "del", "10.0.0.2/24", "dev", "eth0")
	there := when(t, views[ada], states[ada], "bob's new address is used", 30*time.Second, active("10.0.0.7"))
	here := when(t, views[bob], states[bob], "bob is connected again", 30*time.Second, hasPeer("ada", "ready"))
	t.Logf("address changed to used: on the side that changed %.2f s, on the other %.2f s", here.Sub(changed).Seconds(), there.Sub(changed).Seconds())
	if d := max(here.Sub(changed), there.Sub(changed)); d > lab.Bound(t, 3*time.Second) {
		t.Errorf("%v after the change of an address", d)
	}
}
