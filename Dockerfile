# The target and Meltano, each in an environment of its own. docs/recipes.md says how a pipeline is
# built on it.
FROM python:3.13-slim-trixie AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/target-altcraft \
    && /opt/target-altcraft/bin/pip install --no-cache-dir . \
    && python -m venv /opt/meltano \
    && /opt/meltano/bin/pip install --no-cache-dir 'meltano>=4.4,<5'

FROM python:3.13-slim-trixie
COPY --from=build /opt /opt
RUN ln -s /opt/target-altcraft/bin/target-altcraft /opt/meltano/bin/meltano /usr/local/bin/ \
    && useradd --uid 10001 --create-home altcraft \
    && install --directory --owner=altcraft --group=altcraft /project /project/altcraft /state
# Meltano's database, which holds STATE, apart from what it installs in the project
ENV MELTANO_DATABASE_URI=sqlite:////state/meltano.db
USER 10001
WORKDIR /project
VOLUME ["/project/altcraft", "/state"]
CMD ["target-altcraft", "--version"]
