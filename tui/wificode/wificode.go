// Package wificode makes the QR code that lets a phone's camera join a Wi-Fi Direct
// group as a plain Wi-Fi device.
package wificode

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// URI is the text of a code that joins a WPA network, as phones have read it since
// ZXing: each of \ ; , : " in a value has a backslash before it.
func URI(ssid, passphrase string) string {
	escape := strings.NewReplacer(`\`, `\\`, `;`, `\;`, `,`, `\,`, `:`, `\:`, `"`, `\"`)
	return "WIFI:T:WPA;S:" + escape.Replace(ssid) + ";P:" + escape.Replace(passphrase) + ";;"
}

// quiet is the light border that readers need around a code (ISO/IEC 18004 asks
// for four modules).
const quiet = 4

// Rows draws the code of a text with two modules in each character cell: ' ', '█',
// '▀' or '▄', all rows equally wide. Light modules are drawn, which is right where
// the background is dark; with dark the dark ones are. It fails for a text that no
// code can hold.
func Rows(text string, dark bool) ([]string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, fmt.Errorf("wificode: %w", err)
	}
	// Where the last row of characters is half used, the border is a module wider.
	drawn := func(x, y int) bool { return light(code, x, y) != dark }
	var rows []string
	for y := -quiet; y < code.Size+quiet; y += 2 {
		var row strings.Builder
		for x := -quiet; x < code.Size+quiet; x++ {
			switch up, down := drawn(x, y), drawn(x, y+1); {
			case up && down:
				row.WriteString("█")
			case up:
				row.WriteString("▀")
			case down:
				row.WriteString("▄")
			default:
				row.WriteByte(' ')
			}
		}
		rows = append(rows, row.String())
	}
	return rows, nil
}

// Cells draws the code of a text with one module in two character cells: 'X' where it is light, ' ' where
// it is dark. It fails for a text that no code can hold.
func Cells(text string) ([]string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, fmt.Errorf("wificode: %w", err)
	}
	var rows []string
	for y := -quiet; y < code.Size+quiet; y++ {
		row := ""
		for x := -quiet; x < code.Size+quiet; x++ {
			if light(code, x, y) {
				row += "XX"
			} else {
				row += "  "
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// light reports whether a module, or the border around the code, is light.
func light(code *qr.Code, x, y int) bool {
	return x < 0 || y < 0 || x >= code.Size || y >= code.Size || !code.Black(x, y)
}
