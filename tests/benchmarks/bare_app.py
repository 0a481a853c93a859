"""The floor: a Streamlit app with two pages and one chart on each, and nothing else."""

import plotly.graph_objects as go
import streamlit as st


def one() -> None:
    st.title("One")
    st.plotly_chart(go.Figure(go.Bar(y=[1, 2, 3])), key="first")


def two() -> None:
    st.title("Two")
    st.plotly_chart(go.Figure(go.Bar(y=[3, 2, 1])), key="second")


st.navigation([st.Page(one, title="One"), st.Page(two, title="Two")]).run()
