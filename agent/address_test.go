package agent

import (
	"errors"
	"strings"
	"testing"

	"nigh/agent/control"
)

func TestTypedAddresses(t *testing.T) {
	for word, want := range map[string]string{
		"10.0.0.2":              "10.0.0.2:7421",
		" 10.0.0.2:80 ":         "10.0.0.2:80",
		"::1":                   "[::1]:7421",
		"[fd00::2]":             "[fd00::2]:7421",
		"[fd00::2]:9":           "[fd00::2]:9",
		"fe80::1%eth0":          "[fe80::1%eth0]:7421",
		"[fe80::1%eth0]:7422":   "[fe80::1%eth0]:7422",
		"::ffff:10.0.0.2":       "10.0.0.2:7421",
		"NAS.lan":               "nas.lan:7421",
		"kitchen-pi.local:7422": "kitchen-pi.local:7422",
		"nas:7421":              "nas:7421",
		"nas.":                  "nas.:7421",
	} {
		p, ok, err := parsePlace(word)
		if err != nil || !ok || p.String() != want {
			t.Errorf("%q is %q, %t, %v; want %q", word, p, ok, err, want)
			continue
		}
		if again, ok, err := parsePlace(p.String()); again != p || !ok || err != nil {
			t.Errorf("%q is remembered as %q, which is %+v, %t, %v", word, p, again, ok, err)
		}
	}
	for _, word := range []string{
		"", "bob", "Ana's laptop", "7Q4K-M2XD", "02:00:00:00:00:01", "bob:photos", "kitchen pi.x", "-bad.lan", "a..b", ".", "x:y:z",
		strings.Repeat("a", 64) + ".lan", strings.Repeat("a.", 200) + "lan", "写真.lan", "bob:",
	} {
		if p, ok, err := parsePlace(word); ok || err != nil {
			t.Errorf("%q is taken for the address %q, %v", word, p, err)
		}
	}
	for word, says := range map[string]string{
		"10.0.0.300":       "no IPv4 address",
		"10.0.0":           "no IPv4 address",
		"10.0.0.2:0":       "no port",
		"10.0.0.2:70000":   "no port",
		"10.0.0.2:http":    "no port",
		"10.0.0.2:":        "no port",
		"nas.lan:99999":    "no port",
		"[fe80::1":         "bracket",
		"[10.0.0.2]:80":    "no IPv6 address",
		"[fd00::2]80":      "no port",
		"[fd00::2]:x":      "no port",
		"fe80::1":          "needs the link",
		"fe80::1::2":       "no IPv6 address",
		"fe80::12345%eth0": "no IPv6 address",
		"0.0.0.0":          "one device",
		"224.0.0.251":      "one device",
		"255.255.255.255":  "one device",
		"[ff02::fb%eth0]":  "one device",
	} {
		_, ok, err := parsePlace(word)
		e, is := errors.AsType[*control.Error](err)
		if !ok || !is || e.Code != control.CodeUsage || !strings.Contains(e.Message, says) || e.Hint == "" || strings.Contains(e.Message, "\n") {
			t.Errorf("%q: %t, %+v; want a sentence with %q", word, ok, err, says)
		}
	}
}

func FuzzTypedAddress(f *testing.F) {
	for _, word := range []string{"10.0.0.2:7421", "[fe80::1%eth0]:1", "nas.lan:2", "[", "%:%", "::"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		p, ok, err := parsePlace(word)
		if !ok || err != nil {
			if e, is := errors.AsType[*control.Error](err); err != nil && (!is || len(e.Message) > 1000) {
				t.Errorf("%q: %v", word, err)
			}
			return
		}
		again, ok, err := parsePlace(p.String())
		if !ok || err != nil || again != p {
			t.Errorf("%q is kept as %q, which is %+v, %t, %v", word, p, again, ok, err)
		}
	})
}
