package wpa

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nigh/wpa/dbusapi"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The forms are those of the Wi-Fi P2P specification, and were answered by a real wpa_supplicant.
func TestServiceEntries(t *testing.T) {
	s := Service{Type: "_nigh._tcp", Instance: "nighA", TXT: []string{"a=1", "b"}}
	want := []string{
		"05 5f6e696768 c00c 000c 01 | 056e69676841 c027",
		"056e69676841 055f6e696768 c00c 0010 01 | 03613d31 0162",
	}
	for i, e := range s.entries() {
		got := hex.EncodeToString(e.key) + "|" + hex.EncodeToString(e.data)
		if got != strings.ReplaceAll(want[i], " ", "") {
			t.Errorf("entry %d is %s", i, got)
		}
	}
	if e := (Service{Type: "_x._udp", Instance: "i"}).entries(); hex.EncodeToString(e[0].key) != "025f78c01c000c01" || !bytes.Equal(e[1].data, []byte{0}) {
		t.Errorf("entries are %x", e)
	}
	if r := serviceRequest(ServiceQuery{Type: s.Type}, 9); hex.EncodeToString(r) != "0d00"+"0109"+"055f6e696768c00c000c01" {
		t.Errorf("request is %x", r)
	}
	if r := serviceRequest(ServiceQuery{}, 1); hex.EncodeToString(r) != "02000101" {
		t.Errorf("request is %x", r)
	}
}

func TestServiceAnswers(t *testing.T) {
	ptr := ServiceRecord{Name: "_nigh._tcp", Type: PTR, Instance: "nighA", Data: unhex(t, "056e69676841c027")}
	txt := ServiceRecord{Name: "nighA._nigh._tcp", Type: TXT, TXT: []string{"a=1"}, Data: unhex(t, "03613d3100")}
	for name, c := range map[string]struct {
		in   string
		want []serviceAnswer
		bad  bool
	}{
		"nothing":         {},
		"PTR":             {in: "1600 01 01 00 055f6e696768c00c000c01 056e69676841c027", want: []serviceAnswer{{id: 1, record: ptr}}},
		"TXT":             {in: "1900 01 02 00 056e69676841055f6e696768c00c001001 03613d3100", want: []serviceAnswer{{id: 2, record: txt}}},
		"two":             {in: "0300 01 01 02 1600 01 01 00 055f6e696768c00c000c01 056e69676841c027", want: []serviceAnswer{{id: 1, status: 2}, {id: 1, record: ptr}}},
		"other protocol":  {in: "0500 02 01 00 2000"},
		"spelt out":       {in: "2900 01 01 00 055f6e696768 045f746370 056c6f63616c 00 000c 01 056e69676841 055f6e696768 c00c", want: []serviceAnswer{{id: 1, record: ServiceRecord{Name: "_nigh._tcp", Type: PTR, Instance: "nighA", Data: unhex(t, "056e69676841055f6e696768c00c")}}}},
		"empty TLV":       {in: "0000", bad: true},
		"cut":             {in: "1600 01 01 00 055f6e", bad: true},
		"no record":       {in: "0300 01 01 00", bad: true},
		"everything, ok":  {in: "0300 00 01 00", bad: true},
		"other version":   {in: "1600 01 01 00 055f6e696768c00c000c02 056e69676841c027", bad: true},
		"strange pointer": {in: "1600 01 01 00 055f6e696768c00d000c01 056e69676841c027", bad: true},
		"points to self":  {in: "0800 01 01 00 c027000c01", bad: true},
		"other target":    {in: "1600 01 01 00 055f6e696768c00c000c01 056e69676841c00c", bad: true},
		"TXT too long":    {in: "1900 01 02 00 056e69676841055f6e696768c00c001001 ff613d3100", bad: true},
		"long label":      {in: "0900 01 01 00 40 61 61 61 61 61", bad: true},
	} {
		in := unhex(t, c.in)
		if len(in) > 2 && !c.bad { // the sizes above are of the first TLV; set right what was counted wrong
			if size := int(in[0]); name != "two" && size+2 != len(in) {
				in[0] = byte(len(in) - 2)
			}
		}
		got, err := serviceAnswers(in)
		if !reflect.DeepEqual(got, c.want) || (err != nil) != c.bad || err != nil && !errors.Is(err, errTLV) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	many := bytes.Repeat([]byte{3, 0, 1, 1, 2}, 10000)
	if got, err := serviceAnswers(many); len(got) != maxServiceTLVs || err == nil {
		t.Errorf("%d answers, %v", len(got), err)
	}
	long := append([]byte{0xff, 0xff, 1, 1, 0}, bytes.Repeat([]byte{1, 'a'}, 32766)...)
	if got, err := serviceAnswers(long); len(got) != 0 || err == nil {
		t.Errorf("%d answers, %v", len(got), err)
	}
}

// FuzzServiceAnswers checks that nothing that a peer sends breaks the parser, and that what it takes is bounded.
func FuzzServiceAnswers(f *testing.F) {
	for _, s := range []string{"", "16000101000"} {
		f.Add([]byte(s))
	}
	f.Add([]byte("\x13\x00\x01\x01\x00\x05_nigh\xc0\x0c\x00\x0c\x01\x05nighA\xc0\x27"))
	f.Add([]byte("\x15\x00\x01\x02\x00\x05nighA\x05_nigh\xc0\x0c\x00\x10\x01\x03a=1"))
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := serviceAnswers(in)
		if err != nil && !errors.Is(err, errTLV) {
			t.Errorf("error is %v", err)
		}
		if len(list) > maxServiceTLVs {
			t.Errorf("%d answers", len(list))
		}
		for _, a := range list {
			r := a.record
			if len(r.Name) > 2*maxDNSName || len(r.Instance) > maxLabel || len(r.Data) > len(in) || len(r.TXT) > len(in) {
				t.Errorf("record is %+v", r)
			}
			if a.status == 0 && r.Type == PTR && r.Instance == "" {
				t.Errorf("record is %+v", r)
			}
		}
	})
}

func TestServices(t *testing.T) {
	s := Service{Type: "_nigh._tcp", Instance: "a"}
	var f *fake
	inWorld(t, Config{}, func(g *fake) { f = g }, func(w *world) {
		ctx := w.t.Context()
		must(w, w.SetServices(ctx, []Service{s}))
		if got := f.called("AddService"); len(got) != 2 || len(f.called("ServiceUpdate")) != 1 {
			t.Errorf("calls are %q", got)
		}
		all, err := w.DiscoverServices(ctx, ServiceQuery{Type: s.Type})
		must(w, err)
		one, err := w.DiscoverServices(ctx, ServiceQuery{Peer: fakePeer})
		must(w, err)
		answer := func(id QueryID) dbusapi.ServiceResponse {
			tlv := append([]byte{0x13, 0, 1, byte(id), 0}, "\x05_nigh\xc0\x0c\x00\x0c\x01\x01a\xc0\x27"...)
			tlv[0] = byte(len(tlv) - 2)
			return dbusapi.ServiceResponse{Peer: peerPath(fakePeer), TLVs: tlv}
		}
		found := func(id QueryID) (n int) {
			for _, e := range w.events() {
				if s, ok := e.(ServicesFound); ok && s.Query == id && len(s.Records) == 1 && slices.Equal(s.Peer, fakePeer) {
					n++
				}
			}
			return n
		}
		w.say(answer(all), answer(one), answer(99))
		if found(all) != 1 || found(one) != 1 || found(99) != 0 {
			t.Errorf("events are %+v", w.events())
		}
		// After a restart it is all there again; a single device is asked when it is found.
		w.restart()
		if got := f.called("AddService"); len(got) != 4 {
			t.Errorf("calls are %q", got)
		}
		if got := f.called("RequestServices"); len(got) != 3 {
			t.Errorf("calls are %q", got)
		}
		w.near(0)
		if got := f.called("RequestServices"); len(got) != 4 {
			t.Errorf("calls are %q", got)
		}
		must(w, w.CancelServices(ctx, all))
		if got := f.called("CancelServices"); len(got) != 1 {
			t.Errorf("calls are %q", got)
		}
		w.say(answer(all))
		if found(all) != 1 {
			t.Error("a cancelled query was answered")
		}
		for range maxQueries - 1 {
			_, err = w.DiscoverServices(ctx, ServiceQuery{})
			must(w, err)
		}
		if _, err = w.DiscoverServices(ctx, ServiceQuery{}); !errors.Is(err, ErrBusy) {
			t.Errorf("error is %v", err)
		}
		for _, bad := range []Service{{}, {Type: "nigh", Instance: "a"}, {Type: "_a._sctp", Instance: "a"}, {Type: "_a._tcp"}, {Type: "_a._tcp", Instance: "a", TXT: []string{strings.Repeat("x", 256)}}} {
			if err := w.SetServices(ctx, []Service{bad}); !errors.Is(err, ErrConfig) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if _, err = w.DiscoverServices(ctx, ServiceQuery{Instance: "a"}); !errors.Is(err, ErrConfig) {
			t.Errorf("error is %v", err)
		}
	})
	// The end takes everything back.
	if add, del := f.called("AddService"), f.called("DeleteService"); len(del) < len(add) || len(f.called("CancelServices")) < 2 {
		t.Errorf("calls are %q, %q, %q", add, del, f.called("CancelServices"))
	}
}

// TestLostReplies checks that a command whose call is under way when the supplicant goes does not wait for ever.
func TestLostReplies(t *testing.T) {
	inWorld(t, Config{}, nil, func(w *world) {
		w.fake.mu.Lock()
		w.fake.silent = true
		w.fake.mu.Unlock()
		errs := make(chan error, 1)
		go func() { errs <- w.Find(w.t.Context(), time.Minute) }()
		synctest.Wait()
		if len(errs) != 0 {
			t.Fatal("find did not wait for the call")
		}
		w.say(dbusapi.OwnerChanged{})
		select {
		case err := <-errs:
			if !errors.Is(err, ErrSupplicantGone) {
				t.Errorf("error is %v", err)
			}
		default:
			t.Error("find waits")
		}
	})
}
