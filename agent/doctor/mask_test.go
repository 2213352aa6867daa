package doctor

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// planted are secrets and names as they look in real life, and nothing of them may be left.
var planted = map[string][]string{
	"device": {"Ana's laptop", "küche-pi", "写真", "bob"},
	"ssid":   {"Familie Meier 5G", "DIRECT-xy-wohnzimmer"},
	"user":   {"ana"},
	"host":   {"kitchen-pi.fritz.box"},
	"id":     {"7Q4K-M2XD-ABCD-EFGH-2345-6777-QRST-UVWX", "7Q4K-M2XD"},
	"home":   {"/home/ana"},
}

// loose are secrets that nobody named before.
var loose = []string{
	"correct-horse-battery", "hunter2hunter2", "34568712", "482 913", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	"aa:bb:cc:11:22:33", "AA-BB-CC-11-22-34", "ddeeff445566", "203.0.113.77", "192.168.178.23", "10.11.12.13", "169.254.9.8",
	"2001:db8:1234::77", "fe80::a8bb:ccff:fe11:2233", "fd12:3456::9", "WXYZ-2345", "ABCDEFGHIJKLMNOP",
	"holiday-film.mov", "/srv/secret-project/plan.odt", "tax 2025.pdf", "Nachbar-WLAN", "MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEA",
}

// sentences are what programs say, with %s for what is secret.
var sentences = []string{
	`passphrase=%s`, `psk: "%s"`, `The PIN is %s.`, `wpa_psk=%s freq=2437`, `"passphrase":"%s"`,
}

func knowing(t *testing.T) *Mask {
	t.Helper()
	m := NewMask()
	for kind, values := range planted {
		for _, v := range values {
			m.Hide(kind, v)
		}
	}
	return m
}

// bare fails when a secret is left in a text.
func bare(t *testing.T, what, text string) {
	t.Helper()
	low := strings.ToLower(text)
	check := func(secret string) {
		for _, s := range []string{secret, strings.ReplaceAll(secret, " ", `\032`), strings.Trim(fmt.Sprintf("%+q", secret), `"`)} {
			if strings.Contains(low, strings.ToLower(s)) {
				t.Errorf("%s: %q is left in\n%s", what, s, text)
			}
		}
	}
	for kind, values := range planted {
		for _, v := range values {
			if kind == "user" && !strings.Contains(low, "user="+v) && !strings.Contains(low, " "+v+" ") {
				continue // a short name within other words
			}
			check(v)
		}
	}
	for _, v := range loose {
		check(v)
	}
}

func TestNothingSecretIsLeft(t *testing.T) {
	m := knowing(t)
	r := &Report{mask: m}
	var lines []LogLine
	for _, s := range []string{"correct-horse-battery", "hunter2hunter2", "34568712"} {
		for _, sentence := range sentences {
			r.Section("Said", fmt.Sprintf(sentence, s))
			lines = append(lines, LogLine{time.Unix(0, 0), "WARN", "It failed", "err=" + fmt.Sprintf("%q", fmt.Sprintf(sentence, s)) + " pin=" + s + " passphrase=" + s})
		}
	}
	running := `Device %s at %s was seen: file %s.`
	for _, a := range []string{"Ana's laptop", "KÜCHE-PI", "写真", "bob", "7q4k-m2xd", "kitchen-pi.fritz.box"} {
		for _, b := range []string{"aa:bb:cc:11:22:33", "AA-BB-CC-11-22-34", "203.0.113.77", "192.168.178.23:7421", "[fe80::a8bb:ccff:fe11:2233%eth0]:7421", "2001:db8:1234::77", "enxddeeff445566", "10.11.12.13/24", "169.254.9.8", "fd12:3456::9/64", "WXYZ-2345", "ABCDEFGHIJKLMNOP"} {
			text := fmt.Sprintf(running, a, b, "/srv/secret-project/plan.odt")
			r.Section("Seen", text)
			lines = append(lines, LogLine{time.Unix(0, 0), "INFO", text, fmt.Sprintf("peer=%q name=%q addr=%s file=%q", a, a, b, "tax 2025.pdf")})
		}
	}
	r.Section("Kernel", `wlan0: authenticate with aa:bb:cc:11:22:33 (SSID="Nachbar-WLAN")`+"\n"+`wlan0: associate ssid 'x' BSSID=aa:bb:cc:11:22:33 ssid=Nachbar-WLAN`+"\n"+`open /home/ana/Downloads/holiday-film.mov: permission denied, group DIRECT-xy-wohnzimmer, "Familie Meier 5G"`)
	r.Section("Keys", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 MIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8AgEAAkEA, code 482 913")
	r.Checks([]Check{{"inbox", Warn, "Nothing can be received into /srv/secret-project/plan.odt: bob was refused by this device (192.168.178.23).", ""}})
	lines = append(lines,
		LogLine{time.Unix(0, 0), "ERROR", "Reading failed", `err="open \"tax 2025.pdf\": no such file" user=ana text="hunter2hunter2" id=WXYZ-2345`},
		LogLine{time.Unix(0, 0), "INFO", "Agent starts", `id=7Q4K-M2XD name="Ana's laptop" inbox="/home/ana/Downloads/holiday-film.mov" ssid="Nachbar-WLAN" new_field=holiday-film.mov`})
	r.Log(lines)
	err := r.JSON("Status", map[string]any{
		"id": planted["id"][0], "short": "7Q4K-M2XD", "name": "Ana's laptop", "agent": map[string]any{"inbox": "/home/ana/holiday-film.mov", "pid": 7, "free": 12345.5},
		"groups":   []any{map[string]any{"ssid": "DIRECT-xy-wohnzimmer", "passphrase": "correct-horse-battery", "members": []any{"aa:bb:cc:11:22:33"}, "address": "192.168.178.23/24"}},
		"peers":    []any{map[string]any{"name": "küche-pi", "error": "bob said: pin=34568712", "paths": []any{map[string]any{"address": "[fe80::a8bb:ccff:fe11:2233%eth0]:7421"}}}},
		"tomorrow": "hunter2hunter2", "names": []any{"holiday-film.mov", "tax 2025.pdf"},
	})
	if err != nil {
		t.Fatal(err)
	}
	bare(t, "report", r.Text())
	for _, kept := range []string{`"pid": 7`, "permission denied", "freq=2437", "fe80::", "192.168.178.", "Agent starts", "%eth0", "wlan0: authenticate"} {
		if !strings.Contains(r.Text(), kept) {
			t.Errorf("what helps is gone: %q", kept)
		}
	}
}

func TestPseudonymsLast(t *testing.T) {
	m := knowing(t)
	a, b := m.Text("aa:bb:cc:11:22:33 is not aa:bb:cc:11:22:34"), m.Text("it is AA-BB-CC-11-22-33")
	if first, _, _ := strings.Cut(a, " "); first == "" || b != "it is "+first || strings.Count(a, first) != 1 {
		t.Errorf("%q, %q", a, b)
	}
	if x, y := m.Text("Ana's laptop"), m.Text(`"ana's LAPTOP"`); `"`+x+`"` != y {
		t.Errorf("%q, %q", x, y)
	}
}

// What says what is wrong has to stay.
func TestWhatHelpsStays(t *testing.T) {
	m := knowing(t)
	for _, s := range []string{
		"wpa_supplicant has wlan0 with Wi-Fi Direct.", "listen tcp 0.0.0.0:7421: bind: address already in use", "group 224.0.0.251:5353, ff02::fb, ::1, 127.0.0.1, fe80::1, 255.255.255.0",
		"brcmfmac: BCM43430/2 wl0 version 9.88.4.77 FWID 01-8e14b897", "12:34:56 took 1.5s", "/etc/dbus-1/system.d/zz-nigh.conf and /run/nigh/agent.sock", "192.168.49.0/24", "a bandana and bananas",
		"github.com/insomniacslk/dhcp v0.0.0-20260901064844-234b97448fae", "channel 6 (2437 MHz)", "Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC",
	} {
		if got := m.Text(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestKernelTexts(t *testing.T) {
	log := "<6>[    1.0] usb 1-1: new device\n<4>[    2.5] brcmfmac: brcmf_cfg80211_scan: scan error (-22)\n<6>[    3.0] wlan0: authenticated\n"
	if got := radioLines(log); got != "[    2.5] brcmfmac: brcmf_cfg80211_scan: scan error (-22)\n[    3.0] wlan0: authenticated\n" {
		t.Errorf("%q", got)
	}
	if got := modules("brcmfmac 1 0 - Live 0x0\next4 1 0 - Live\ncfg80211 2 0\n"); got != "brcmfmac cfg80211\n" {
		t.Errorf("%q", got)
	}
	if got := shellValue("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n", "PRETTY_NAME"); got != "Debian GNU/Linux 12" {
		t.Errorf("%q", got)
	}
	if got := parseSupplicantVersion("wpa_supplicant v2.11-devel\nCopyright"); got != "2.11" {
		t.Errorf("%q", got)
	}
	if got := packageVersion("Package: a\nVersion: 1\n\nPackage: wpasupplicant\nStatus: x\nVersion: 2:2.10-24+rpt1\n", "wpasupplicant"); got != "2:2.10-24+rpt1" {
		t.Errorf("%q", got)
	}
}

func FuzzMask(f *testing.F) {
	for _, s := range append(loose, sentences...) {
		f.Add(s, "Ana's laptop")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		m := NewMask()
		m.Hide("device", name)
		once := m.Text(text)
		if len(text) > 1<<10 || len(name) > 100 {
			return
		}
		_ = m.Attrs(text)
		for _, mac := range macs.FindAllString(once, -1) {
			if mac != "00:00:00:00:00:00" && !strings.EqualFold(mac, "ff:ff:ff:ff:ff:ff") && !strings.Contains(strings.ToLower(mac), "00-00") && !strings.EqualFold(mac, "ff-ff-ff-ff-ff-ff") {
				t.Errorf("%q keeps %s", once, mac)
			}
		}
	})
}

// FuzzSystemTexts gives the readers of other programs' files anything: only that nothing breaks and nothing grows.
func FuzzSystemTexts(f *testing.F) {
	f.Add("### tuple ### allow tcp 7421 0.0.0.0/0 any 0.0.0.0/0 Nigh - in\n")
	f.Add("denyinterfaces p2p-* [\ninterface eth0\n")
	f.Add("<6>[ 1.0] wlan0: x\nPackage: wpasupplicant\nVersion: 1\nbrcmfmac 1\nKEY='v'\n")
	f.Fuzz(func(t *testing.T, s string) {
		if got := ufwRules(s, s, "eth0", 7421); got == 0 {
			t.Error("no outcome")
		}
		for _, out := range []string{radioLines(s), modules(s), shellValue(s, "KEY"), shellColon(s, "KEY"), packageVersion(s, "wpasupplicant"), parseSupplicantVersion(s), printable(s)} {
			if len(out) > 3*len(s)+1 {
				t.Errorf("%d bytes became %d", len(s), len(out))
			}
		}
		dhcpcdKeepsOff(s)
		var v any
		if json.Unmarshal([]byte(s), &v) == nil {
			NewMask().JSON(v)
		}
	})
}
