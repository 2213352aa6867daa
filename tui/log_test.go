package tui

import (
	"testing"
	"time"

	"nigh/agent/control"
)

func logging() *fakeAgent {
	at := time.Date(1999, 12, 31, 23, 50, 0, 0, time.UTC)
	return &fakeAgent{
		state: sampleState(),
		checks: []control.Check{
			{ID: "supplicant", State: "ok", Cause: "wpa_supplicant 2.10 answers, Wi-Fi Direct is on"},
			{ID: "firewall", State: "warn", Cause: "firewalld closes UDP 5353 and TCP 7421 in the zone public", Fix: "sudo firewall-cmd --zone=public --add-service=nigh, or: sudo nigh doctor --fix firewalld"},
			{ID: "manager", State: "fail", Cause: "NetworkManager may take groups away", Fix: "sudo nigh doctor --fix networkmanager"},
		},
		log: []control.LogLine{
			{Time: at, Level: "DEBUG", Message: "Formation", Attrs: "stage=Negotiated"},
			{Time: at, Level: "INFO", Message: "Device is near", Attrs: "peer=B3RD-9KFA path=direct"},
			{Time: at.Add(time.Second), Level: "WARN", Message: "Asked again", Attrs: "name=\x1b[2Jx"},
		},
	}
}

// TestLog shows what the checks found and the newest of the log.
func TestLog(t *testing.T) {
	agent := logging()
	drive(t, agent, func(u *ui) {
		u.press("6")
		u.expect("1 fail, 1 warn, 1 ok", "[6 Log 1]", "Device is near", "name=?[2Jx", "from INFO on")
		u.expectNot("Formation", "wpa_supplicant 2.10")
		u.expectCalls("doctor")
		u.expect("── check manager")
		u.press("G")
		at := time.Date(1999, 12, 31, 23, 59, 0, 0, time.UTC)
		agent.emit(control.Event{Type: "log", Log: &control.LogLine{Time: at, Level: "INFO", Message: "Session is up"}})
		u.settle()
		u.expect("── Session is up") // who is at the end stays there
		agent.emit(control.Event{Type: "log", Log: &control.LogLine{Time: at.Add(time.Second), Level: "INFO", Message: "Much later\x1b[2J", Missed: 7}})
		u.settle()
		u.expect("── Much later?[2J", "7 lines missing here")
		u.press("g")
		u.expect("NetworkManager may take groups away.", "sudo nigh doctor --fix networkmanager")
		u.press("l")
		u.expectNot("Device is near")
		u.press("l", "l")
		u.expect("from DEBUG on", "Formation")
		u.press("/")
		u.typed("firewall")
		u.press("enter", "g")
		u.expect("sudo firewall-cmd")
		u.expectNot("Formation")
		u.press("d")
		u.expectCalls("doctor")
	})
}
