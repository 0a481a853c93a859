"""The Streamlit front end: pages, figures and the little they share."""
