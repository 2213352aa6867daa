package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// impostor answers as if it were another device, and remembers what it was asked.
type impostor struct {
	*stranger
	claims any // the ID in its hello

	mu    sync.Mutex
	asked map[string]int // by path; guarded by mu
}

func (i *impostor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	i.mu.Unlock()
	if r.URL.Path == "/v1/hello" {
		say(w, http.StatusOK, map[string]any{"version": 1, "id": i.claims, "name": "bob"})
		return
	}
	w.WriteHeader(http.StatusAccepted) // it would take anything
}

// greeted and told return how often it was greeted, and what else it was asked.
func (i *impostor) greeted() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked["/v1/hello"]
}

func (i *impostor) told() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []string
	for path := range i.asked {
		if path != "/v1/hello" {
			all = append(all, path)
		}
	}
	return all
}

// book returns what an agent knows of other devices, without what changes by itself.
func book(t *testing.T, a *node.Agent) string {
	t.Helper()
	var list []control.Trusted
	if err := a.JSON(t.Context(), &list, "trust", "list"); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestSpoofedDeviceGetsNothing has mallory take the place of a trusted device that is away: its IP address, the hardware
// address of its link, its name and its short ID, once with an honest hello and once with its DeviceID in it. What is
// sent to that device waits for it, or is not sent. It comes back with other addresses, and gets it.
//
// Then mallory, whom nobody trusts, asks for everything that a trusted device may, and for what nobody may; nothing is
// accepted, cancelled, removed or renamed by that, nor by junk on every port.
func TestSpoofedDeviceGetsNothing(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb, hm := n.Host("ada"), n.Host("bob"), n.Host("mallory")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	lan.Join(hm, "eth0", "10.0.0.66/24")
	ada, bob := start(t, ha, "ada", "--accept", "trusted"), start(t, hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	bothTrust(t, ada, bob)
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mac := macOf(t, hb, "eth0")
	if err := bob.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob", "away")); err != nil {
		t.Fatal(err)
	}
	before := book(t, ada)

	hb.IP("address", "flush", "dev", "eth0", "scope", "global")
	hb.IP("link", "set", "eth0", "address", "02:00:00:00:00:22")
	hb.IP("address", "add", "10.0.0.9/24", "dev", "eth0")
	hm.IP("link", "set", "eth0", "address", mac)
	hm.IP("address", "add", "10.0.0.2/24", "dev", "eth0")
	var impostors []*impostor
	for _, claims := range []string{"", status.ID} {
		i := &impostor{stranger: newStranger(t, hm), asked: map[string]int{}}
		if i.claims = any(claims); claims == "" {
			i.claims = i.id
		}
		i.announce("bob", status.Short, i.serve(netip.MustParseAddr([]string{"10.0.0.2", "10.0.0.66"}[len(impostors)]), i))
		impostors = append(impostors, i)
	}
	note := filepath.Join(t.TempDir(), "for-bob.txt")
	random(t, note, 1000)
	// Away, or not yet known not to answer: then the offer waits.
	sent := ask(t, ada, "", "send", note, "--to", "bob")
	if sent.code != 4 && sent.code != 0 {
		t.Errorf("a file for a device that is away: %+v", sent)
	}
	if d := ask(t, ada, "", "msg", "for bob alone", "--to", "bob"); d.code != 0 {
		t.Errorf("msg: %+v", d)
	}
	for _, i := range impostors {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx := within(t, 30*time.Second); i.greeted() == 0; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("an impostor was never greeted: this shows nothing")
			}
		}
	}
	if err := bob.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bob.Await(within(t, 60*time.Second), func(s control.State) bool {
		return len(s.Messages) == 1 && s.Messages[0].Text == "for bob alone"
	}); err != nil {
		t.Fatal(err)
	}
	if sent.code != 0 {
		if d := ask(t, ada, "", "send", note, "--to", "bob"); d.code != 0 {
			t.Errorf("send: %+v", d)
		}
	}
	if err := bob.Await(within(t, 60*time.Second), transferIs("done")); err != nil {
		t.Fatal(err)
	}
	if want, got := digest(t, note), digest(t, filepath.Join(bob.Inbox, "for-bob.txt")); want != got {
		t.Error("the hashes differ")
	}
	for _, i := range impostors {
		if told := i.told(); len(told) > 0 {
			t.Errorf("the impostor that says %v was asked %q", i.claims, told)
		}
	}
	if after := book(t, ada); after != before {
		t.Errorf("the trust book was %s and is %s", before, after)
	}

	// An offer that waits for ada's user, and whom it is from.
	at := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), portOf(t, ada))
	m := newStranger(t, hm)
	offer := map[string]any{
		"v": 1, "x": strings.Repeat("0a", 16), "manifest_root": strings.Repeat("ab", 32), "manifest_bytes": 20, "files": 1, "bytes": 5, "tops": 1, "names": []string{"free.txt"},
	}
	asStranger := func(method, path string, body any) int {
		l, err := m.dial(within(t, 20*time.Second), netip.Addr{}, at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		status, _ := l.ask(method, path, body)
		return status
	}
	if s := asStranger("POST", "/v1/offer", offer); s != http.StatusAccepted {
		t.Errorf("a stranger's offer: %d", s)
	}
	if err := ada.Await(within(t, 30*time.Second), func(s control.State) bool {
		return len(s.Inbox) == 1 && s.Inbox[0].Trust == "new" && s.Inbox[0].Transfer.State == "waiting"
	}); err != nil {
		t.Fatal("the offer of a stranger does not wait, though only trusted devices need no answer:", err)
	}
	var transfers []control.Transfer
	if err := ada.JSON(t.Context(), &transfers, "transfers"); err != nil {
		t.Fatal(err)
	}
	untouched := func() []string {
		var all []string
		if err := ada.JSON(t.Context(), &transfers, "transfers"); err != nil {
			t.Fatal(err)
		}
		for _, tr := range transfers {
			all = append(all, tr.ID+" "+tr.State)
		}
		slices.Sort(all)
		return all
	}
	was := untouched()
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/v1/msg", map[string]any{"v": 1, "id": fmt.Sprintf("%032x", 7), "text": "hello"}},
		{"GET", "/v1/shares", nil}, {"POST", "/v1/shares/browse", map[string]any{"share": "x"}}, {"POST", "/v1/shares/search", map[string]any{"query": "x"}},
		{"POST", "/v1/shares/get", map[string]any{"x": strings.Repeat("0b", 16), "share": "x"}},
		{"POST", "/v1/dialback", nil}, {"POST", "/v1/pair/confirm", map[string]any{"cancel": true}},
		{"POST", "/v1/unpair", map[string]any{"id": status.ID}}, {"DELETE", "/v1/trust/" + status.ID, nil}, {"POST", "/v1/trust", map[string]any{"action": "remove", "device": "bob"}},
		{"POST", "/v1/rename", map[string]any{"id": status.ID, "name": "mallory"}}, {"GET", "/v1/events", nil}, {"POST", "/v1/inbox/" + transfers[0].ID + "/accept", nil},
		{"POST", "/v1/x/" + transfers[0].ID + "/state", map[string]any{"state": "failed", "code": "cancelled"}}, {"GET", "/v1/x/" + transfers[0].ID + "/file/0", nil},
	} {
		if s := asStranger(c.method, c.path, c.body); s/100 != 4 {
			t.Errorf("a stranger's %s %s: %d", c.method, c.path, s)
		}
	}
	// Words that no key stands behind: to the port of the sessions, by TCP and UDP, and to that of mDNS.
	junk := [][]byte{nil, []byte("\x00"), []byte("BYE bob\n"), []byte(`{"type":"kdeconnect.pair","body":{"pair":false}}` + "\n"), make([]byte, 1400), []byte(strings.Repeat("\xff", 512))}
	err = hm.Do(func() error {
		for _, port := range []uint16{at.Port(), 5353} {
			udp, err := net.Dial("udp", netip.AddrPortFrom(at.Addr(), port).String())
			if err != nil {
				return err
			}
			for _, p := range junk {
				_, _ = udp.Write(p) // refused where nobody listens
			}
			_ = udp.Close()
		}
		for _, p := range junk {
			tcp, err := net.Dial("tcp", at.String())
			if err != nil {
				return err
			}
			_, _ = tcp.Write(p)
			_ = tcp.Close()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := book(t, ada); after != before {
		t.Errorf("the trust book was %s and is %s", before, after)
	}
	if now := untouched(); !slices.Equal(now, was) {
		t.Errorf("transfers were %q and are %q", was, now)
	}
	if d := ask(t, ada, "", "msg", "still there?", "--to", "bob"); d.code != 0 {
		t.Errorf("msg: %+v", d)
	}
	if err := bob.Await(within(t, 30*time.Second), func(s control.State) bool { return len(s.Messages) == 2 }); err != nil {
		t.Error(err)
	}
}

func portOf(t *testing.T, a *node.Agent) uint16 {
	t.Helper()
	status, err := a.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return uint16(status.Agent.Port)
}

// macOf returns the hardware address of a link.
func macOf(t *testing.T, h *lab.Host, ifname string) (mac string) {
	t.Helper()
	if err := h.Do(func() error {
		ifi, err := net.InterfaceByName(ifname)
		if err == nil {
			mac = ifi.HardwareAddr.String()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mac
}
