package cli

import (
	"strings"

	"nigh/agent/control"
)

// holders says what of a transfer came from which device, and who was asked no more; "" when all came from one that was right.
func holders(t control.Transfer) string {
	var from, dropped []string
	for _, h := range t.Holders {
		if h.Bytes > 0 {
			from = append(from, size(h.Bytes)+" from "+h.Device.Name)
		}
		if h.Dropped != "" {
			dropped = append(dropped, h.Device.Name)
		}
	}
	text := ""
	if len(from) > 1 {
		text = strings.Join(from, ", ")
	}
	if len(dropped) > 0 {
		if text != "" {
			text += "; "
		}
		text += strings.Join(dropped, ", ") + " sent wrong data and is asked no more"
	}
	return text
}
