"""Results in, pictures out: plotly figures and SVG.  No Streamlit, no torch."""
