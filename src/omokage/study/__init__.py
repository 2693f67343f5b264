"""Studies with people: can they tell generated pictures from real ones?

The package knows folders of pictures, tables of answers and tables of metrics. It knows no model.
"""
