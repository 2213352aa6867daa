package main

import (
	"github.com/go-analyze/charts"
)

// The chart: one row of bars for each tool, one panel for each set of data.
const (
	chartWidth  = 860
	barHeight   = 26
	panelMargin = 84 // title and axis
)

// chart draws how fast each tool moves each set of data, in MB a second, as SVG. Nigh's bars have a colour of their own.
func chart(comparisons []comparison) ([]byte, error) {
	height := 0
	for _, c := range comparisons {
		height += panelMargin + barHeight*len(c.tools)
	}
	painter := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: chartWidth, Height: height})
	painter.FilledRect(0, 0, chartWidth, height, charts.ColorWhite, charts.ColorWhite, 0)
	top := 0
	for _, c := range comparisons {
		bottom := top + panelMargin + barHeight*len(c.tools)
		panel := painter.Child(charts.PainterBoxOption(charts.NewBox(0, top, chartWidth, bottom)))
		if err := panel.BarChart(bars(c)); err != nil {
			return nil, err
		}
		top = bottom
	}
	return painter.Bytes()
}

// bars is one panel, the fastest tool on top. A colour belongs to a series, so nigh is one and the others are another, stacked
// in the same bars.
func bars(c comparison) charts.BarChartOption {
	tools := c.fastest()
	own, others := make([]float64, len(tools)), make([]float64, len(tools))
	labels := make([]string, len(tools))
	for i, t := range tools {
		at := len(tools) - 1 - i // the first is drawn at the bottom
		labels[at] = t
		values := others
		if t == ours {
			values = own
		}
		values[at] = rate(c.set, medians(c.results[t])) / 1e6
	}
	option := charts.NewBarChartOptionWithData([][]float64{own, others})
	option.Horizontal = true
	option.StackSeries = charts.Ptr(true)
	option.Theme = charts.GetTheme(charts.ThemeLight).WithSeriesColors([]charts.Color{
		{R: 30, G: 120, B: 80, A: 255}, {R: 165, G: 172, B: 180, A: 255},
	})
	option.Title.Text = "MB/s, " + c.set.title
	option.Legend.Show = charts.Ptr(false)
	option.CategoryAxis.Labels = labels
	return option
}
