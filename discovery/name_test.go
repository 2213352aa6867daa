package discovery

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/miekg/dns"
)

func TestInstanceLabel(t *testing.T) {
	for _, c := range []struct{ user, want string }{
		{"Kitchen Pi", "Kitchen Pi [7Q4K-M2XD]"},
		{"", "[7Q4K-M2XD]"},
		{"  \x1b[31mred\n", "[31mred [7Q4K-M2XD]"},
		{strings.Repeat("ä", 30), strings.Repeat("ä", 20) + " [7Q4K-M2XD]"},
		{"a\xffb", "ab [7Q4K-M2XD]"},
	} {
		got := instanceLabel(c.user, "7Q4K-M2XD")
		if got != c.want || len(got) > labelMaxBytes {
			t.Errorf("%q: %q, want %q", c.user, got, c.want)
		}
	}
}

func TestParseTXT(t *testing.T) {
	got := parseTXT([]string{"v=1", "N=K\\195\\188che", "v=2", "=x", "flag", "raw=\\255", "e=a=b", "", "k\\007=1"})
	want := map[string]string{"v": "1", "n": "Küche", "flag": "", "e": "a=b"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var many []string
	for i := range 100 {
		many = append(many, string(rune('a'+i%26))+string(rune('a'+i/26))+"=1")
	}
	if got := parseTXT(many); len(got) != txtMaxPairs {
		t.Errorf("%d pairs", len(got))
	}
	if got := parseTXT([]string{"a=1", "b=" + strings.Repeat("x", txtMaxBytes)}); len(got) != 1 {
		t.Errorf("%d pairs from too long a record", len(got))
	}
}

func TestNewRefusesWhatCannotBeAnnounced(t *testing.T) {
	for what, c := range map[string]Config{
		"no port":            {ShortID: "A"},
		"bad short ID":       {ShortID: "a.b", Port: 1},
		"long short ID":      {ShortID: strings.Repeat("a", 17), Port: 1},
		"bad service type":   {ShortID: "A", Port: 1, ServiceType: "nigh"},
		"long TXT string":    {ShortID: "A", Port: 1, TXT: []string{strings.Repeat("x", 256)}},
		"long TXT record":    {ShortID: "A", Port: 1, TXT: []string{strings.Repeat("x", 255), strings.Repeat("y", 255), strings.Repeat("z", 255), strings.Repeat("x", 255), "y"}},
		"empty TXT string":   {ShortID: "A", Port: 1, TXT: []string{""}},
		"subtype in service": {ShortID: "A", Port: 1, ServiceType: "_nigh._tcp,_x"},
	} {
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	d, err := New(Config{Port: 1})
	if err != nil || !strings.HasPrefix(d.said.host, "nigh-") || len(d.said.host) != len("nigh-12345678.local.") {
		t.Errorf("random name: %v", err)
	}
	if d, err := New(Config{NoPublish: true}); err != nil || d.Name() != "" {
		t.Errorf("browse only: %v", err)
	}
}

// The library compares names as miekg/dns prints them: what we give it must be that form exactly.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"Kitchen Pi [7Q4K-M2XD]", "a.b", `x\y`, "José's \"pi\"", "@;()", "\x00\x7f\xff", "1\\065", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(escapeLabel(s)); got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
		if got := unescape(escapeTXT(s)); got != s {
			t.Fatalf("%q came back as %q", s, got)
		}
		if len(s) == 0 || len(s) > labelMaxBytes {
			return
		}
		name := escapeLabel(s) + "." + testService
		m := &dns.Msg{Answer: []dns.RR{
			&dns.PTR{Hdr: dns.RR_Header{Name: testService, Rrtype: dns.TypePTR, Class: 1, Ttl: 1}, Ptr: name},
			&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: 1, Ttl: 1}, Txt: []string{escapeTXT(s)}},
		}}
		raw, err := m.Pack()
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		var back dns.Msg
		if err := back.Unpack(raw); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if got := back.Answer[0].(*dns.PTR).Ptr; got != name {
			t.Errorf("name %q, printed %q", name, got)
		}
		if got := back.Answer[1].(*dns.TXT).Txt[0]; unescape(got) != s {
			t.Errorf("TXT %q, printed %q", s, got)
		}
		label, ok := instanceOf(back.Answer[0].(*dns.PTR).Ptr, testService)
		plain := utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
		if ok != plain || ok && label != s {
			t.Errorf("label %q, %v of %q", label, ok, s)
		}
	})
}

func FuzzParseTXT(f *testing.F) {
	f.Add("v=1", "n=Küche")
	f.Add("\\", "\\1")
	f.Fuzz(func(t *testing.T, a, b string) {
		for k, v := range parseTXT([]string{a, b, a}) {
			if k == "" || k != strings.ToLower(k) || !utf8.ValidString(v) {
				t.Errorf("pair %q=%q", k, v)
			}
		}
		unescape(a)
		instanceOf(a+"."+testService, testService)
	})
}

func FuzzInstanceLabel(f *testing.F) {
	f.Add("Kitchen Pi")
	f.Fuzz(func(t *testing.T, user string) {
		label := instanceLabel(user, "7Q4K-M2XD")
		if got, ok := instanceOf(escapeLabel(label)+"."+testService, testService); !ok || got != label {
			t.Errorf("%q is announced as %q and found as %q", user, label, got)
		}
	})
}
