//go:build radio

package air_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/recognise"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// secrets are what nobody but the two devices may read, whatever their visibility.
var secrets = map[string]string{
	"file name": "quartalsbericht-streng-geheim.pdf",
	"content":   "der inhalt der datei, siebzehnmal gelesen",
	"message":   "komm um mitternacht zur alten eiche",
}

// wpsNames are the attributes of Wi-Fi Protected Setup that are on the air in clear, before and while a group is formed.
var wpsNames = map[uint16]string{
	0x1002: "association state", 0x1003: "authentication type flags", 0x1008: "config methods", 0x1009: "configuration error", 0x1011: "device name", 0x1012: "device password ID",
	0x1021: "manufacturer", 0x1023: "model name", 0x1024: "model number", 0x103a: "request type", 0x103b: "response type",
	0x103c: "RF bands", 0x1041: "selected registrar", 0x1042: "serial number", 0x1044: "state", 0x1047: "UUID", 0x1049: "vendor extension",
	0x104a: "version", 0x1053: "selected registrar config methods", 0x1054: "primary device type", 0x1055: "secondary device types",
	0x106a: "requested device type",
}

const (
	wpsName, wpsUUID, wpsVendor, wpsType = 0x1011, 0x1047, 0x1049, 0x1054
	// computer is the type of every device that runs nigh.
	computer = "\x00\x01\x00\x50\xf2\x04\x00\x01"
	// own marks the vendor extension that is nigh's.
	own = "NGH"
)

// fixedTexts are attributes in which other programs tell of the machine; ours say nothing.
var fixedTexts = []uint16{0x1021, 0x1023, 0x1024, 0x1042}

// TestWhatAnEavesdropperLearnsOnTheAir is Show 5 of the trust issue by radio: two trusted devices meet, form a group, talk and move
// a file, and part. What was on the air meanwhile is what agent/trust/doc.go says, in each of the modes.
func TestWhatAnEavesdropperLearnsOnTheAir(t *testing.T) {
	nodes := radio.Nodes(t, 2)
	ada, bob := agentOn(t, nodes[0], "Annegret", "--accept", "trusted"), agentOn(t, nodes[1], "Brunhild", "--accept", "trusted")
	agents := []*node.Agent{ada, bob}
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), secrets["file name"])
	if err := os.WriteFile(file, []byte(strings.Repeat(secrets["content"], 17)), 0o600); err != nil {
		t.Fatal(err)
	}
	uuids := map[string]map[string]bool{} // by the sender's address
	for i, mode := range []string{"everyone", "trusted", "hidden"} {
		began := time.Now()
		if i > 0 {
			for _, a := range agents {
				restart(t, a, "--accept", "trusted", "--visibility", mode)
			}
		}
		capture := radio.Eavesdrop(t)
		heard := func() []radio.Frame {
			var all []radio.Frame
			for _, raw := range capture.Frames(t) {
				if f, err := radio.ParseFrame(raw); err == nil {
					all = append(all, f)
				}
			}
			return all
		}
		aloneOnTheAir(t, ada, bob, mode != "hidden", heard)
		if mode == "hidden" { // who is hidden is found while it looks itself
			search(t, bob)
		}
		if err := join(within(t, 3*time.Minute), ada, bob.Name); err != nil {
			t.Fatal(err)
		}
		together(t, ada, bob)
		nigh(t, ada, time.Minute, "send", file, "--to", bob.Name, "--wait")
		nigh(t, ada, time.Minute, "msg", secrets["message"], "--to", bob.Name, "--wait", "--timeout", "50s")
		if err := os.Remove(filepath.Join(bob.Inbox, filepath.Base(file))); err != nil {
			t.Error(err)
		}
		alone(t, ada, bob)
		onTheAir(t, mode, heard(), agents, uuids)
		t.Logf("%s took %.0f s", mode, time.Since(began).Seconds())
	}
	machines := map[string]bool{}
	for from, seen := range uuids {
		if len(seen) != 1 {
			t.Errorf("%s had the UUIDs %q", from, slices.Collect(maps.Keys(seen)))
		}
		maps.Copy(machines, seen)
	}
	if len(machines) != len(agents) {
		t.Errorf("%d machines had the UUIDs %q: doc.go says that each has one for ever", len(agents), slices.Collect(maps.Keys(machines)))
	}
}

// search is look for as long as it can be.
func search(t *testing.T, a *node.Agent) {
	t.Helper()
	if err := a.Client().Find(within(t, time.Minute), control.FindRequest{Seconds: 120}); err != nil {
		t.Fatal(err)
	}
}

// aloneOnTheAir has ada search near bob, who is idle, and sees bob answer, if he is visible, or not. Every search sends several
// probe requests on the channel that bob would listen on.
func aloneOnTheAir(t *testing.T, ada, bob *node.Agent, visible bool, heard func() []radio.Frame) {
	t.Helper()
	const enough = 20 // requests without an answer
	status, err := bob.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	search(t, ada)
	eventually(t, time.Minute, func() string {
		requests, answers := 0, 0
		for _, f := range heard() {
			switch {
			case f.Kind == radio.ProbeResponse && f.From.String() == status.Radio.Address:
				answers++
			case f.Kind == radio.ProbeRequest:
				requests++
			}
		}
		switch {
		case !visible && answers > 0:
			t.Fatalf("a hidden device that is idle answered %d of %d requests", answers, requests)
		case visible && answers == 0, !visible && requests < enough:
			return fmt.Sprintf("%d probe requests, %d answers", requests, answers)
		}
		return ""
	})
}

// onTheAir compares frames with what trust/doc.go says of a mode.
func onTheAir(t *testing.T, mode string, frames []radio.Frame, agents []*node.Agent, uuids map[string]map[string]bool) {
	t.Helper()
	kinds, inClear, names, keys := map[string]int{}, map[string]int{}, map[string]bool{}, map[identity.PublicKey]bool{}
	senders := map[string]bool{}
	var all [][]byte
	for _, f := range frames {
		kinds[fmt.Sprintf("%#02x protected=%v", byte(f.Kind), f.Protected)]++
		senders[f.From.String()] = true
		all = append(all, f.Body)
		for _, a := range f.WPS() {
			name, known := wpsNames[a.ID]
			if !known {
				t.Errorf("%s: attribute %#04x in clear: %q", mode, a.ID, a.Value)
			}
			inClear[name]++
			switch {
			case a.ID == wpsName:
				names[string(a.Value)] = true
			case a.ID == wpsUUID:
				if uuids[f.From.String()] == nil {
					uuids[f.From.String()] = map[string]bool{}
				}
				uuids[f.From.String()][hex.EncodeToString(a.Value)] = true
			case a.ID == wpsType && string(a.Value) != computer && strings.Trim(string(a.Value), "\x00") != "": // zeros: the group's own network
				t.Errorf("%s: the device says that it is a %x", mode, a.Value)
			case slices.Contains(fixedTexts, a.ID) && strings.Trim(string(a.Value), " \x00") != "":
				t.Errorf("%s: the %s is %q", mode, name, a.Value)
			case a.ID == wpsVendor && bytes.HasPrefix(a.Value, []byte(own)):
				if advert, err := recognise.Decode(a.Value); err != nil {
					t.Errorf("%s: the advert %x: %v", mode, a.Value, err)
				} else if !advert.Key.IsZero() {
					keys[advert.Key] = true
				}
			}
		}
	}
	t.Logf("%s: frames %v; WPS attributes in clear %v; device names %q", mode, kinds, inClear, slices.Sorted(maps.Keys(names)))

	everyone := mode == "everyone"
	for what, text := range secrets {
		if contains(all, text) {
			t.Errorf("%s: the %s is on the air", mode, what)
		}
	}
	host, err := os.Hostname()
	if err != nil || contains(all, host) {
		t.Errorf("%s: the machine's name %q is on the air (%v)", mode, host, err)
	}
	for _, a := range agents {
		id, err := identity.Load(a.State)
		if err != nil {
			t.Fatal(err)
		}
		status, err := a.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for what, text := range map[string]string{"name": a.Name, "short ID": id.ID.Short()} {
			if got := contains(all, text); got != everyone {
				t.Errorf("%s: the %s of %s on the air: %v", mode, what, a.Name, got)
			}
		}
		if keys[id.Key()] != everyone {
			t.Errorf("%s: the key of %s in an advert: %v", mode, a.Name, keys[id.Key()])
		}
		key := id.Key()
		if got := contains(all, string(key[:])); got != everyone {
			t.Errorf("%s: the key of %s on the air: %v", mode, a.Name, got)
		}
		if contains(all, string(id.Certificate.Certificate[0][:64])) {
			t.Errorf("%s: the certificate of %s is on the air", mode, a.Name)
		}
		if !senders[status.Radio.Address] {
			t.Errorf("%s: nothing is from %s's address %s: was anything captured?", mode, a.Name, status.Radio.Address)
		}
	}
	for name := range names {
		_, err := base64.RawURLEncoding.DecodeString(name)
		blank := strings.TrimSpace(name) == "" // of the group's own network
		if tags := err == nil && len(name) == 32; !tags && !blank && !everyone {
			t.Errorf("%s: the device name %q is in clear", mode, name)
		}
	}
	if kinds["0x08 protected=true"] == 0 {
		t.Errorf("%s: no data in the group was captured", mode)
	}
}

func contains(frames [][]byte, text string) bool {
	return slices.ContainsFunc(frames, func(f []byte) bool { return bytes.Contains(f, []byte(text)) })
}
