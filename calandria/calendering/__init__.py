"""DEM particle dumps to labelled time series: films made by LAMMPS or the user's own."""
