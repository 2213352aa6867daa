package wpa

import (
	"slices"
	"testing"
)

// element makes a P2P information element.
func element(attributes ...byte) []byte {
	return append([]byte{221, byte(4 + len(attributes)), 0x50, 0x6f, 0x9a, 0x09}, attributes...)
}

func TestP2PDevice(t *testing.T) {
	capability := []byte{2, 2, 0, 0x25, 9}
	id := append([]byte{p2pDeviceID, 6, 0}, fakePeer...)
	info := append(append([]byte{p2pDeviceInfo, 8, 0}, fakePeer...), 1, 8)
	ssid := []byte{0, 3, 'a', 'b', 'c'}
	for name, tt := range map[string]struct {
		ies   []byte
		found bool
	}{
		"beacon":            {append(slices.Clone(ssid), element(append(slices.Clone(capability), id...)...)...), true},
		"probe response":    {element(append(slices.Clone(capability), info...)...), true},
		"cut up":            {append(element(append(slices.Clone(capability), id[:5]...)...), element(id[5:]...)...), true},
		"other maker":       {[]byte{221, 9, 0, 0x50, 0xf2, 4, 1, 2, 3, 4, 5}, false},
		"not P2P":           {ssid, false},
		"short address":     {element(p2pDeviceID, 5, 0, 1, 2, 3, 4, 5), false},
		"attribute too big": {element(append([]byte{2, 255, 255}, id...)...), false},
		"element too big":   {append([]byte{221, 250}, element(id...)...), false},
		"nothing":           {nil, false},
	} {
		if got := p2pDevice(tt.ies); (got != nil) != tt.found || tt.found && !slices.Equal(got, fakePeer) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzP2PDevice(f *testing.F) {
	f.Add(element(append([]byte{p2pDeviceID, 6, 0}, fakePeer...)...))
	f.Fuzz(func(t *testing.T, ies []byte) {
		if got := p2pDevice(ies); got != nil && len(got) != 6 {
			t.Errorf("address is %v", got)
		}
	})
}
