//go:build radio

package air_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab/node"
	"nigh/lab/radio"
)

// doctor asks an agent for its checks, whatever the exit code.
func doctor(t *testing.T, a *node.Agent) map[string]control.Check {
	t.Helper()
	out, errs, _ := a.Run(within(t, time.Minute), "doctor", "--json")
	var list []control.Check
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&list); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	checks := map[string]control.Check{}
	for _, c := range list {
		checks[c.ID] = c
		t.Logf("%-4s %s: %s %s", c.State, c.ID, c.Cause, c.Fix)
	}
	return checks
}

// rfkill turns the switches of a node's radios: it sees no other ones.
func rfkill(t *testing.T, n *radio.Node, to string) {
	t.Helper()
	output(t, n, "sh", "-c", "for s in /sys/class/rfkill/*/soft; do echo "+to+" > $s; done")
}

// TestShow7SwitchedOffRadio is the part of Show 7 that needs a radio: one that is healthy, is switched off, and is on again.
func TestShow7SwitchedOffRadio(t *testing.T) {
	nodes := radio.Nodes(t, 1)
	ada := agentOn(t, nodes[0], "ada")
	healthy := doctor(t, ada)
	for _, id := range []string{"wifi-hw", "rfkill", "p2p-modes", "p2p-device", "combos", "channel", "bus", "supplicant", "supplicant-p2p", "supplicant-iface", "dbus-policy", "usable"} {
		if c, there := healthy[id]; !there || c.State != "ok" {
			t.Errorf("on a healthy machine: %s: %+v", id, c)
		}
	}
	if c := healthy["country"]; c.State == "fail" || c.Cause == "" {
		t.Errorf("%+v", c)
	}

	rfkill(t, nodes[0], "1")
	await(t, ada, time.Minute, func(s control.State) bool { return s.Status.Radio.State == "off" })
	off := doctor(t, ada)
	// There is no network in the lab, so that nothing works now.
	if c := off["rfkill"]; c.State != "fail" || !strings.Contains(c.Fix, "rfkill unblock wifi") {
		t.Errorf("%+v", c)
	}
	if c := off["usable"]; c.State != "fail" || !strings.Contains(c.Cause, "switched off by software") {
		t.Errorf("%+v", c)
	}
	for id, c := range off {
		if id != "rfkill" && id != "usable" && c.State != "ok" && healthy[id].State == "ok" {
			t.Errorf("this is not what is broken: %+v", c)
		}
	}

	rfkill(t, nodes[0], "0")
	awaitRadio(t, ada)
	if c := doctor(t, ada)["rfkill"]; c.State != "ok" {
		t.Errorf("%+v", c)
	}
}
