package e2e_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/lab"
	"nigh/lab/node"
)

// secrets are what nobody but the two devices may read, whatever their visibility.
var secrets = map[string]string{
	"file name":    "quartalsbericht-streng-geheim.pdf",
	"folder name":  "verschlusssachen-2026",
	"content":      "der inhalt der datei, siebzehnmal gelesen",
	"message":      "komm um mitternacht zur alten eiche",
	"user name":    "annemarie-huber",
	"machine name": "kontor-rechner-drei",
	"home":         "heimatverzeichnis",
}

// Show 5 of the trust issue: two devices come to a segment, meet as strangers, trust each other, talk and move files, and go. What
// an eavesdropper read meanwhile is what agent/trust/doc.go says, in each of the modes.
func TestWhatAnEavesdropperLearns(t *testing.T) {
	for _, mode := range []string{"everyone", "trusted", "hidden"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			n := lab.NewNet(t)
			lan := n.Bridge("lan")
			ha, hb := n.Host("ada"), n.Host("bob")
			lan.Join(ha, "eth0", "10.0.0.1/24")
			lan.Join(hb, "eth0", "10.0.0.2/24")
			capture := lan.Capture(t)
			ada, bob := visible(t, ha, "Annegrets Tischrechner", mode), visible(t, hb, "Brunos Werkbank", mode)

			meet(t, ada, bob, mode)
			befriend(t, ada, bob)
			for _, w := range []struct{ on, other *node.Agent }{{ada, bob}, {bob, ada}} {
				if err := w.on.Await(within(t, time.Minute), hasPeer(w.other.Name, "ready")); err != nil {
					t.Fatal(err)
				}
			}
			folder := filepath.Join(t.TempDir(), secrets["folder name"])
			file := filepath.Join(folder, secrets["file name"])
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(strings.Repeat(secrets["content"], 17)), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"send", folder, "--to", bob.Name, "--wait"}, {"msg", secrets["message"], "--to", bob.Name}} {
				if out, errs, code := ada.Run(within(t, time.Minute), args...); code != 0 {
					t.Fatalf("%v: exit %d: %s%s", args, code, out, errs)
				}
			}
			if err := bob.Await(within(t, time.Minute), func(s control.State) bool { return len(s.Messages) == 1 }); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(bob.Inbox, secrets["folder name"], secrets["file name"])); err != nil {
				t.Fatal(err)
			}
			for _, a := range []*node.Agent{ada, bob} {
				if err := a.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			overheard(t, capture.Frames(t), mode, ada, bob)
		})
	}
}

// visible starts an agent on a machine with names that are easy to find.
func visible(t *testing.T, h *lab.Host, name, mode string) *node.Agent {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), secrets["home"])
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := node.Start(t.Context(), node.Config{
		Binary: bin, Dir: dir, Name: name, Args: []string{"--no-direct", "--accept", "trusted", "--visibility", mode},
		Command: func(ctx context.Context, program string, arg ...string) *exec.Cmd {
			const named = `hostname "$0" && exec "$@"`
			cmd := h.Command(ctx, "unshare", append([]string{"--uts", "sh", "-c", named, secrets["machine name"], program}, arg...)...)
			cmd.Env = append(os.Environ(), "USER="+secrets["user name"], "LOGNAME="+secrets["user name"])
			return cmd
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Kill() })
	return a
}

// meet returns when two strangers have greeted each other, and checks what the greeting told them. Devices that are not announced
// meet because one of the persons types the other's address.
func meet(t *testing.T, ada, bob *node.Agent, mode string) {
	t.Helper()
	if mode == "hidden" {
		st, err := bob.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(st.Agent.Port)).String()
		if out, errs, code := ada.Run(within(t, time.Minute), "peers", "add", at); code != 0 {
			t.Fatalf("peers add: exit %d: %s%s", code, out, errs)
		}
	}
	known := func(s control.State) bool { return len(s.Peers) == 1 && s.Peers[0].ID != "" }
	if err := ada.Await(within(t, time.Minute), known); err != nil {
		t.Fatal(err)
	}
	if mode != "hidden" {
		if err := bob.Await(within(t, time.Minute), known); err != nil {
			t.Fatal(err)
		}
	}
	var peers []control.Peer
	if err := ada.JSON(t.Context(), &peers, "peers"); err != nil {
		t.Fatal(err)
	}
	st, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 || peers[0].ID != st.ID {
		t.Fatalf("a stranger sees %+v, want the device %s", peers, st.ID)
	}
	if told := peers[0].Name == bob.Name; told != (mode == "everyone") {
		t.Errorf("a stranger sees the name %q", peers[0].Name)
	}
}

// overheard compares what is in frames with what trust/doc.go says of a mode.
func overheard(t *testing.T, frames [][]byte, mode string, agents ...*node.Agent) {
	t.Helper()
	var mdns, answers, rest [][]byte
	for _, f := range frames {
		switch {
		case !lab.MDNS(f):
			rest = append(rest, f)
		case response(f):
			answers = append(answers, f)
			fallthrough
		default:
			mdns = append(mdns, f)
		}
	}
	streams := lab.Stream(rest)
	elsewhere := append(rest, streams...)
	t.Logf("%d frames of mDNS, %d of them responses; %d others in %d streams", len(mdns), len(answers), len(rest), len(streams))

	for what, text := range secrets {
		if where := find(append(mdns, elsewhere...), text); where != "" {
			t.Errorf("the %s is in clear: %s", what, where)
		}
	}
	for _, a := range agents {
		id, err := identity.Load(a.State)
		if err != nil {
			t.Fatal(err)
		}
		short := id.ID.Short()
		for what, text := range map[string]string{"name": a.Name, "short ID": short} {
			announced := find(mdns, text)
			if (announced != "") != (mode == "everyone") {
				t.Errorf("%s: its %s in mDNS: %q", a.Name, what, announced)
			}
			if where := find(elsewhere, text); where != "" {
				t.Errorf("%s: its %s is in clear: %s", a.Name, what, where)
			}
		}
		key := id.Key()
		for what, text := range map[string]string{
			"key": string(key[:]), "key in hexadecimal": hex.EncodeToString(key[:]), "whole ID": id.ID.String(),
			"certificate": string(id.Certificate.Certificate[0][:64]),
		} {
			if where := find(append(mdns, elsewhere...), text); where != "" {
				t.Errorf("%s: its %s is in clear: %s", a.Name, what, where)
			}
		}
		if where := find(elsewhere, strings.ReplaceAll(short, "-", "")); where != "" {
			t.Errorf("%s: its short ID without the dash is in clear: %s", a.Name, where)
		}
	}
	// What is in clear in every mode: that nigh is there.
	if find(mdns, "_nigh") == "" || find(streams, "nigh/1") == "" {
		t.Error("neither questions for the service nor the protocol's name were seen: was anything captured?")
	}
	// A hidden device asks, and answers nobody.
	if announced := find(answers, "_nigh") != ""; announced != (mode != "hidden") {
		t.Errorf("the service is announced: %v", announced)
	}
}

// With visibility trusted a device goes by other names after each start: nobody without a pair secret knows it again.
func TestUnknownAgainAfterARestart(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha := n.Host("ada")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	capture := lan.Capture(t)
	a := visible(t, ha, "Annegrets Tischrechner", "trusted")
	var runs []map[string]bool
	for heard := 0; len(runs) < 2; {
		ctx, tick := within(t, time.Minute), time.NewTicker(20*time.Millisecond)
		said := map[string]bool{}
		for len(said) < 3 { // instance, host, TXT record
			select {
			case <-tick.C:
				said = announcements(capture.Frames(t)[heard:])
			case <-ctx.Done():
				t.Fatalf("only %v was announced", said)
			}
		}
		tick.Stop()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		frames := capture.Frames(t)
		runs = append(runs, announcements(frames[heard:]))
		heard = len(frames)
		if len(runs) < 2 {
			if err := a.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for said := range runs[0] {
		if runs[1][said] {
			t.Errorf("after a restart it says again %q", said)
		}
	}
	t.Logf("first %v, then %v", slices.Sorted(maps.Keys(runs[0])), slices.Sorted(maps.Keys(runs[1])))
}

// announcements are the names and texts of nigh's records in the mDNS responses among frames.
func announcements(frames [][]byte) map[string]bool {
	said := map[string]bool{}
	for _, f := range frames {
		if !lab.MDNS(f) || !response(f) {
			continue
		}
		var m dns.Msg
		if m.Unpack(f[dnsHead(f):]) != nil {
			continue
		}
		for _, r := range slices.Concat(m.Answer, m.Extra) {
			switch r := r.(type) {
			case *dns.SRV:
				said[strings.TrimSuffix(r.Hdr.Name, "._nigh._tcp.local.")] = true
				said[r.Target] = true
			case *dns.TXT:
				for _, text := range r.Txt {
					if text != "v=1" {
						said[text] = true
					}
				}
			}
		}
	}
	return said
}

// dnsHead is where the DNS message of an mDNS frame begins.
func dnsHead(frame []byte) int {
	if frame[12] == 0x86 { // IPv6
		return 14 + 40 + 8
	}
	return 14 + 20 + 8
}

// response reports whether an mDNS frame is one: its QR bit is set.
func response(frame []byte) bool {
	head := dnsHead(frame)
	return len(frame) > head+2 && frame[head+2]&0x80 != 0
}

// find returns the first of the texts that has needle in it, in upper or lower case, around it; "" when none has.
func find(in [][]byte, needle string) string {
	lower := bytes.ToLower([]byte(needle))
	for i, text := range in {
		if at := bytes.Index(bytes.ToLower(text), lower); at >= 0 {
			return strconv.Itoa(i) + ": " + strconv.QuoteToASCII(string(text[max(0, at-40):min(len(text), at+len(needle)+40)]))
		}
	}
	return ""
}
