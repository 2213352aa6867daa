package radio

import (
	"bytes"
	"slices"
	"testing"
)

// A frame is read as far as it is whole, whatever its parts say of their lengths.
func TestParseFrame(t *testing.T) {
	to, from := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	element := func(vendor []byte, body ...[]byte) []byte {
		text := slices.Concat(append([][]byte{vendor}, body...)...)
		return slices.Concat([]byte{221, byte(len(text))}, text)
	}
	named := func(name string) []byte { return slices.Concat([]byte{0x10, 0x11, 0, byte(len(name))}, []byte(name)) }
	info := slices.Concat(from, []byte{1, 0x88}, make([]byte, 8), []byte{1}, make([]byte, 8), named("of the device"))
	frame := func(first, second byte, body ...[]byte) []byte {
		radiotap := []byte{0, 0, 10, 0, 0, 0, 0, 0, 0, 0}
		return slices.Concat(append([][]byte{radiotap, {first, second, 0, 0}, to, from, from, {0, 0}}, body...)...)
	}
	probe := frame(byte(ProbeResponse), 0, make([]byte, 12), []byte{0, 3, 'a', 'b', 'c'}, element(wpsElement, named("in ")[:5]), element(wpsElement, named("in ")[5:]),
		element(p2pElement, []byte{13, byte(len(info)), 0}, info))
	f, err := ParseFrame(probe)
	if err != nil || f.Kind != ProbeResponse || f.Protected || !bytes.Equal(f.To, to) || !bytes.Equal(f.From, from) {
		t.Fatalf("%+v, %v", f, err)
	}
	var names []string
	for _, a := range f.WPS() {
		if a.ID == 0x1011 {
			names = append(names, string(a.Value))
		}
	}
	if !slices.Equal(names, []string{"in ", "of the device"}) {
		t.Errorf("names %q", names)
	}
	asks, err := ParseFrame(frame(byte(Action), 0, []byte{4, 9}, p2pElement, []byte{0, 1}, element(p2pElement, []byte{13, byte(len(info)), 0}, info)))
	if all := asks.WPS(); err != nil || len(all) != 1 || string(all[0].Value) != "of the device" {
		t.Errorf("%+v, %v", all, err)
	}
	if f, err := ParseFrame(frame(byte(Data)|0x80, 0x40, []byte("encrypted"))); err != nil || f.Kind != Data || !f.Protected || len(f.WPS()) != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for n := range probe { // whatever is cut off
		if f, err := ParseFrame(probe[:n]); err == nil {
			f.WPS()
			f.P2P()
		}
	}
}
