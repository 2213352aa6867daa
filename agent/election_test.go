package agent

import (
	"testing"
	"testing/fstest"
)

func TestIntent(t *testing.T) {
	five, zero := 5, 0
	for _, c := range []struct {
		name  string
		facts ownerFacts
		want  int
	}{
		{"a Pi", ownerFacts{driver: "brcmfmac", version: "7.45.241", wanted: 1}, 13},
		{"a Pi that sends to three", ownerFacts{driver: "brcmfmac", version: "7.45.241", wanted: 3}, 14},
		{"a laptop on its charger", ownerFacts{driver: "iwlwifi", wanted: 1}, 13},
		{"a laptop on battery", ownerFacts{driver: "iwlwifi", battery: true, wanted: 1}, 7},
		{"a laptop on battery that sends to three", ownerFacts{driver: "iwlwifi", battery: true, wanted: 3}, 8},
		{"nothing is known", ownerFacts{}, 13},
		{"a Zero 2 W with BCM43430/2", ownerFacts{driver: "brcmfmac", version: "9.88.4.77", wanted: 3}, 0},
		{"its chip, tried all the same", ownerFacts{configured: &five, driver: "brcmfmac", version: "9.88.4.77"}, 5},
		{"another driver of that version", ownerFacts{driver: "rtw89", version: "9.88.4.77"}, 13},
		{"never, says the person", ownerFacts{configured: &zero, wanted: 3}, 0},
		{"on battery, but the person says", ownerFacts{configured: &five, battery: true}, 5},
	} {
		n, why := c.facts.intent()
		if n != c.want || why == "" {
			t.Errorf("%s: intent %d (%q), want %d", c.name, n, why, c.want)
		}
	}
}

func TestOnBattery(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s + "\n")} }
	for _, c := range []struct {
		name string
		fs   fstest.MapFS
		want bool
	}{
		{"a Pi", fstest.MapFS{}, false},
		{"a Pi with its supply listed", fstest.MapFS{"rpi/type": file("USB"), "rpi/online": file("1")}, false},
		{"a laptop, unplugged", fstest.MapFS{"AC/type": file("Mains"), "AC/online": file("0"), "BAT0/type": file("Battery"), "BAT0/status": file("Discharging")}, true},
		{"a laptop, plugged in", fstest.MapFS{"AC/type": file("Mains"), "AC/online": file("1"), "BAT0/type": file("Battery"), "BAT0/status": file("Charging")}, false},
		{"plugged in, its charger too weak", fstest.MapFS{"ucsi/type": file("USB"), "ucsi/online": file("1"), "BAT0/type": file("Battery"), "BAT0/status": file("Discharging")}, false},
		{"a desktop with a wireless mouse", fstest.MapFS{"hid/type": file("Battery"), "hid/scope": file("Device"), "hid/status": file("Discharging")}, false},
		{"a full battery, no other supply listed", fstest.MapFS{"BAT0/type": file("Battery"), "BAT0/status": file("Full")}, false},
	} {
		if got := onBattery(c.fs); got != c.want {
			t.Errorf("%s: on battery %t", c.name, got)
		}
	}
}
